//! The usage report as CSV, without the total, so that sums in a spreadsheet are right.

use super::report::UsageReport;
use crate::api::error::ApiError;
use crate::domain::tokens::TokenTotals;
use crate::domain::usage::{Dimension, UsageTotals};

/// The columns of the figures, in the order of [`figures`].
fn figure_columns() -> impl Iterator<Item = &'static str> {
    let others = ["cost_usd", "unknown_costs", "requests", "attempts", "errors", "blocks"];
    TokenTotals::COLUMNS.into_iter().chain(others)
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

/// The table, with a header row.
pub(super) fn table(report: &UsageReport) -> Result<Vec<u8>, ApiError> {
    let mut columns = vec!["start".to_owned()];
    for name in &report.group_by {
        if name.starts_with("metadata.") {
            columns.extend(["metadata_value".to_owned(), "metadata_name".to_owned()]);
        } else if name == Dimension::Model.as_str() {
            columns.push(name.clone());
        } else {
            columns.extend([format!("{name}_id"), format!("{name}_name")]);
        }
    }
    columns.extend(figure_columns().map(str::to_owned));
    let mut out = ::csv::Writer::from_writer(Vec::new());
    out.write_record(&columns).map_err(failed)?;
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
            row.extend(cells.into_iter().map(|cell| text_cell(cell.iter().flatten().next())));
        }
        row.extend(figures(&item.totals));
        out.write_record(&row).map_err(failed)?;
    }
    out.into_inner().map_err(failed)
}

/// A cell that a spreadsheet takes for text and not for a formula: some texts come from callers.
fn text_cell(text: Option<&String>) -> String {
    let text = text.map(String::as_str).unwrap_or_default();
    match text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

fn failed(error: impl std::fmt::Display) -> ApiError {
    ApiError::Internal(format!("the CSV can't be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_text() {
        for text in ["=1+1", "+1", "-1", "@x", "\t=1"] {
            assert_eq!(text_cell(Some(&text.to_owned())), format!("'{text}"));
        }
        assert_eq!(text_cell(Some(&"a=b".to_owned())), "a=b");
        assert_eq!(text_cell(None), "");
    }

    #[test]
    fn every_figure_has_a_column() {
        let totals =
            UsageTotals { cost_usd: "0.25".parse().unwrap(), blocks: 7, ..Default::default() };
        let json = serde_json::to_value(totals).unwrap();
        assert_eq!(json.as_object().unwrap().len(), figure_columns().count());
        for (column, figure) in figure_columns().zip(figures(&totals)) {
            assert_eq!(json[column].to_string(), figure, "{column}");
        }
    }
}
