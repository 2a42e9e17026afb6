//! The options as data, read from the command line's definition, for the table in the documentation.

use std::fmt::Write;

/// One option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionRow {
    /// The heading in `--help`.
    pub heading: String,
    /// `--flag`.
    pub flag: String,
    /// `TOLLGATE_*`.
    pub env: Option<String>,
    /// As written on the command line.
    pub default: Option<String>,
    pub help: String,
}

/// The options of a command in their order, without `--help` and `--version`.
pub fn option_rows(command: &clap::Command) -> Vec<OptionRow> {
    command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version"))
        .filter_map(|arg| {
            let default = arg
                .get_default_values()
                .iter()
                .map(|value| value.to_string_lossy())
                .collect::<Vec<_>>()
                .join(",");
            Some(OptionRow {
                heading: arg.get_help_heading().unwrap_or("Options").to_owned(),
                flag: format!("--{}", arg.get_long()?),
                env: arg.get_env().map(|name| name.to_string_lossy().into_owned()),
                default: (!default.is_empty()).then_some(default),
                help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            })
        })
        .collect()
}

/// The rows as a Markdown table, with a line for each heading.
pub fn option_table_markdown(rows: &[OptionRow]) -> String {
    let mut table =
        String::from("| option | variable | default | meaning |\n| --- | --- | --- | --- |\n");
    let mut heading = "";
    for row in rows {
        if row.heading != heading {
            heading = &row.heading;
            let _ = writeln!(table, "| **{heading}** | | | |");
        }
        let code = |text: Option<&String>| text.map(|text| format!("`{text}`")).unwrap_or_default();
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} |",
            row.flag,
            code(row.env.as_ref()),
            code(row.default.as_ref()),
            row.help.replace('|', "\\|").replace('\n', " "),
        );
    }
    table
}
