//! The table of settings as a page of documentation.

use super::command_line::CONFIG_VARIABLE;
use super::setting::{Need, Program, Setting};

/// Markdown: one section per part of the table, one row per setting.
#[must_use]
pub fn markdown(program: &Program) -> String {
    let mut out = format!(
        "## {}\n\n{}\n\nFile: `--config` or `{CONFIG_VARIABLE}`.\n",
        program.name, program.about
    );
    let mut section = "";
    for setting in program.settings() {
        if setting.section() != section {
            section = setting.section();
            out += &format!("\n### {section}\n\n");
            out += "| key | environment | flag | default | meaning |\n";
            out += "| --- | --- | --- | --- | --- |\n";
        }
        out += &row(program, setting);
    }
    out
}

fn row(program: &Program, setting: &Setting) -> String {
    let default = match setting.need {
        Need::Required => "**required**".to_owned(),
        Need::Optional => String::new(),
        Need::Default(default) => format!("`{default}`"),
    };
    let mut meaning = setting.help.replace('|', "\\|");
    if setting.secret {
        meaning += " Secret: also from a file.";
    } else if !matches!(setting.need, Need::Default(_)) {
        meaning += &format!(" Example: `{}`.", setting.example);
    }
    let (key, variable, flag) = (setting.key, program.variable(setting), setting.flag());
    if setting.secret {
        format!(
            "| `{key}`, `{key}_file` | `{variable}`, `{variable}_FILE` | `--{flag}` | {default} | {meaning} |\n"
        )
    } else {
        format!("| `{key}` | `{variable}` | `--{flag}` | {default} | {meaning} |\n")
    }
}
