//! `director completions`.

use clap::Args;
use clap_complete::Shell;

use super::{Outcome, print};

/// Print what a shell needs to complete the director's command lines. The package has these files in place.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director completions bash > /usr/share/bash-completion/completions/director
  director completions zsh > /usr/local/share/zsh/site-functions/_director
  director completions fish > /etc/fish/completions/director.fish")]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(self) -> Outcome {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "director", &mut text);
        print(&String::from_utf8_lossy(&text))
    }
}
