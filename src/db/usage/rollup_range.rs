//! Which roll-ups a time is read from: its whole days by the day, what is left at its ends by the
//! hour.

use chrono::{Days, NaiveDateTime, NaiveTime};

use crate::db::sql::Sql;

/// How long a time one row of the roll-ups is of. Rows are written in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::db) enum Period {
    Hour,
    Day,
}

impl Period {
    /// The text form, as the table has it.
    pub(in crate::db) fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// A part of a time, UTC, that is read from roll-ups of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::db) struct RollupRange {
    pub(in crate::db) period: Period,
    from: NaiveDateTime,
    /// Not part of it; none where it has no end.
    to: Option<NaiveDateTime>,
}

impl RollupRange {
    /// All of the time by the hour.
    pub(in crate::db) fn hours(from: NaiveDateTime, to: Option<NaiveDateTime>) -> Self {
        Self { period: Period::Hour, from, to }
    }

    /// The time, which begins and ends with an hour, by the day as far as its days are whole. Up to
    /// three parts, in order.
    pub(in crate::db) fn split(from: NaiveDateTime, to: Option<NaiveDateTime>) -> Vec<Self> {
        let midnight = |at: NaiveDateTime| at.date().and_time(NaiveTime::MIN);
        let first = match midnight(from) {
            midnight if midnight == from => from,
            midnight => midnight.checked_add_days(Days::new(1)).unwrap_or(NaiveDateTime::MAX),
        };
        let last = to.map(midnight);
        if last.is_some_and(|last| last <= first) {
            return vec![Self::hours(from, to)];
        }
        let mut parts = Vec::with_capacity(3);
        if from < first {
            parts.push(Self::hours(from, Some(first)));
        }
        parts.push(Self { period: Period::Day, from: first, to: last });
        if let Some(last) = last
            && Some(last) != to
        {
            parts.push(Self::hours(last, to));
        }
        parts
    }

    /// Adds the condition that a row is of this time.
    pub(in crate::db) fn bind(self, sql: &mut Sql) {
        sql.push("period = '").push(self.period.as_str()).push("' AND starts_at >= ");
        sql.time(self.from);
        if let Some(to) = self.to {
            sql.push(" AND starts_at < ").time(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Timelike};
    use proptest::prelude::*;

    use super::*;

    fn at(hours: i64) -> NaiveDateTime {
        NaiveDateTime::default() + TimeDelta::hours(hours)
    }

    /// The hours that a part is of.
    fn hours(part: RollupRange, end: NaiveDateTime) -> Vec<NaiveDateTime> {
        let to = part.to.unwrap_or(end);
        (0..).map(|hours| part.from + TimeDelta::hours(hours)).take_while(|at| *at < to).collect()
    }

    proptest! {
        #[test]
        fn each_hour_is_in_one_part_and_each_whole_day_by_the_day(
            from in 0..200_i64,
            length in 1..200_i64,
            ends: bool,
        ) {
            let (from, to) = (at(from), at(from + length));
            let parts = RollupRange::split(from, ends.then_some(to));
            // A time without an end is looked at up to the end of a day.
            let end = if ends { to } else { at(480) };
            let covered: Vec<_> = parts.iter().flat_map(|part| hours(*part, end)).collect();
            prop_assert_eq!(covered, hours(RollupRange::hours(from, Some(end)), end));

            let (days, ragged): (Vec<_>, Vec<_>) =
                parts.into_iter().partition(|part| part.period == Period::Day);
            for part in &days {
                prop_assert!(part.from.hour() == 0 && part.to.unwrap_or(end).hour() == 0);
                prop_assert_eq!(part.to.is_none(), !ends);
            }
            let ragged: Vec<_> = ragged.iter().flat_map(|part| hours(*part, end)).collect();
            let is_whole = |hour: &&NaiveDateTime| {
                let midnight = hour.date().and_time(NaiveTime::MIN);
                from <= midnight && midnight + TimeDelta::days(1) <= end
            };
            prop_assert_eq!(ragged.iter().find(is_whole), None);
        }
    }

    #[test]
    fn a_month_is_days_and_an_hour_is_none() {
        let day = |from, to| RollupRange { period: Period::Day, from: at(from), to: Some(at(to)) };
        let hour = |from, to| RollupRange::hours(at(from), Some(at(to)));
        assert_eq!(RollupRange::split(at(0), Some(at(720))), [day(0, 720)]);
        assert_eq!(RollupRange::split(at(5), Some(at(6))), [hour(5, 6)]);
        assert_eq!(RollupRange::split(at(5), Some(at(47))), [hour(5, 47)]);
        assert_eq!(
            RollupRange::split(at(5), Some(at(49))),
            [hour(5, 24), day(24, 48), hour(48, 49)]
        );
    }
}
