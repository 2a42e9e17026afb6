//! The time windows of limits. Instants are passed in; all times are UTC.

use chrono::{
    DateTime, Datelike, Days, DurationRound, Months, NaiveDate, NaiveTime, TimeDelta, Utc,
};
use serde::{Deserialize, Serialize};

use super::text_enum::text_enum;

text_enum! {
    /// The window of a spend cap: a calendar period in UTC.
    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum SpendWindow {
        /// From the beginning of an hour.
        Hourly = "hourly",
        /// From midnight.
        Daily = "daily",
        /// From midnight on Monday.
        Weekly = "weekly",
        /// From midnight on the first of a month.
        Monthly = "monthly",
    }
}

impl SpendWindow {
    /// The beginning of the window that contains this instant.
    pub fn start(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let day = at.date_naive();
        let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
        match self {
            Self::Hourly => at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at),
            Self::Daily => midnight(day),
            Self::Weekly => {
                let since_monday = u64::from(day.weekday().num_days_from_monday());
                midnight(day.checked_sub_days(Days::new(since_monday)).unwrap_or(day))
            }
            Self::Monthly => midnight(day.with_day(1).unwrap_or(day)),
        }
    }

    /// The end of the window that contains this instant: the first instant of the next window.
    pub fn end(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let start = self.start(at);
        match self {
            Self::Hourly => start + TimeDelta::hours(1),
            Self::Daily => start + TimeDelta::days(1),
            Self::Weekly => start + TimeDelta::days(7),
            Self::Monthly => start.checked_add_months(Months::new(1)).unwrap_or(start),
        }
    }
}

text_enum! {
    /// The rolling window of a rate limit, which consists of sixty buckets.
    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum RateWindow {
        /// The last sixty seconds.
        Minute = "minute",
        /// The last sixty minutes.
        Hour = "hour",
    }
}

impl RateWindow {
    /// Buckets of a window.
    pub const BUCKETS: i64 = 60;

    /// The length of a bucket.
    pub fn bucket_seconds(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
        }
    }

    /// The number of the bucket that contains this instant, counted from the Unix epoch. The window
    /// consists of this bucket and the 59 before it.
    pub fn bucket(self, at: DateTime<Utc>) -> i64 {
        at.timestamp().div_euclid(self.bucket_seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn windows_begin_and_end_on_the_calendar() {
        let now = at("2028-02-29T13:59:59.999999Z");
        for (window, start, end) in [
            (SpendWindow::Hourly, "2028-02-29T13:00:00Z", "2028-02-29T14:00:00Z"),
            (SpendWindow::Daily, "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
            (SpendWindow::Weekly, "2028-02-28T00:00:00Z", "2028-03-06T00:00:00Z"),
            (SpendWindow::Monthly, "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ] {
            assert_eq!((window.start(now), window.end(now)), (at(start), at(end)), "{window:?}");
            assert_eq!(window.start(at(start)), at(start), "its first instant belongs to it");
            assert_eq!(window.start(at(end)), at(end), "its end belongs to the next");
        }
    }

    #[test]
    fn buckets_are_counted_from_the_epoch() {
        assert_eq!(RateWindow::Minute.bucket(at("1970-01-01T00:01:00.5Z")), 60);
        assert_eq!(RateWindow::Hour.bucket(at("1970-01-01T01:00:59Z")), 60);
    }
}
