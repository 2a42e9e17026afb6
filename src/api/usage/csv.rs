//! The figures as a table. Its sum is left out, so that a spreadsheet's own sums are right.

use super::report::UsageReport;
use crate::api::error::ApiError;
use crate::domain::tokens::TokenTotals;
use crate::domain::usage::{Dimension, UsageTotals};

/// The columns of the figures after the tokens', in the order of [`figures`].
const OTHER_FIGURES: [&str; 6] =
    ["cost_usd", "unknown_costs", "requests", "attempts", "errors", "blocks"];

fn columns() -> impl Iterator<Item = &'static str> {
    TokenTotals::COLUMNS.into_iter().chain(OTHER_FIGURES)
}

fn figures(totals: &UsageTotals) -> impl Iterator<Item = String> {
    let others = [
        totals.cost_usd.to_string(),
        totals.unknown_costs.to_string(),
        totals.requests.to_string(),
        totals.attempts.to_string(),
        totals.errors.to_string(),
        totals.blocks.to_string(),
    ];
    totals.tokens.sums().into_iter().map(|sum| sum.to_string()).chain(others)
}

/// The table, with a row of headings.
pub(super) fn table(report: &UsageReport) -> Result<Vec<u8>, ApiError> {
    let mut headings = vec!["start".to_owned()];
    for name in &report.group_by {
        if name.starts_with("metadata.") {
            headings.extend(["metadata_value".to_owned(), "metadata_name".to_owned()]);
        } else if name == Dimension::Model.as_str() {
            headings.push(name.clone());
        } else {
            headings.extend([format!("{name}_id"), format!("{name}_name")]);
        }
    }
    headings.extend(columns().map(str::to_owned));
    let mut out = ::csv::Writer::from_writer(Vec::new());
    out.write_record(&headings).map_err(failed)?;
    for item in &report.data {
        let start =
            item.start.map(|start| start.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        let mut row = vec![start.unwrap_or_default()];
        for name in &report.group_by {
            let cells = match name.as_str() {
                "organization" => vec![&item.organization_id, &item.organization_name],
                "workspace" => vec![&item.workspace_id, &item.workspace_name],
                "user" => vec![&item.user_id, &item.user_name],
                "api_key" => vec![&item.api_key_id, &item.api_key_name],
                "configuration" => vec![&item.configuration_id, &item.configuration_name],
                "model" => vec![&item.model],
                _ => vec![&item.metadata_value, &item.metadata_name],
            };
            row.extend(cells.into_iter().map(|cell| harmless(cell.iter().flatten().next())));
        }
        row.extend(figures(&item.totals));
        out.write_record(&row).map_err(failed)?;
    }
    out.into_inner().map_err(failed)
}

/// A cell that a spreadsheet takes for text, and not for a formula: callers write some of them.
fn harmless(text: Option<&String>) -> String {
    let text = text.map(String::as_str).unwrap_or_default();
    match text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

fn failed(error: impl std::fmt::Display) -> ApiError {
    ApiError::Internal(format!("the table can't be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_made_text() {
        for text in ["=1+1", "+1", "-1", "@x", "\t=1"] {
            assert_eq!(harmless(Some(&text.to_owned())), format!("'{text}"));
        }
        assert_eq!(harmless(Some(&"a=b".to_owned())), "a=b");
        assert_eq!(harmless(None), "");
    }

    #[test]
    fn figures_have_their_columns() {
        let totals =
            UsageTotals { cost_usd: "0.25".parse().unwrap(), blocks: 7, ..Default::default() };
        let json = serde_json::to_value(totals).unwrap();
        assert_eq!(json.as_object().unwrap().len(), columns().count());
        for (column, figure) in columns().zip(figures(&totals)) {
            assert_eq!(json[column].to_string(), figure, "{column}");
        }
    }
}
