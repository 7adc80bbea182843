//! A terminal in a host of the lab, with a shell in it: a tmux server of its own, which ends with the lab.
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::daemon::await_that;
use crate::{Child, Host};

/// The terminal; dropping it hangs up on whatever runs in it.
pub struct Terminal {
    host: Arc<Host>,
    socket: PathBuf,
    /// In the foreground, so that it is killed as every child is.
    _server: Child,
}

impl Terminal {
    /// Opens one of so many columns and lines.
    ///
    /// # Errors
    /// When tmux does not start.
    pub fn open(host: &Arc<Host>, columns: u16, lines: u16) -> Result<Self> {
        let socket = host.scratch().join("terminal");
        let server = host
            .command("tmux")
            .args(["-f", "/dev/null", "-D", "-S"])
            .arg(&socket)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()?;
        let terminal = Self { host: Arc::clone(host), socket, _server: server };
        let size = [columns, lines].map(|size| size.to_string());
        let session = ["new-session", "-d", "-x", &size[0], "-y", &size[1], "PS1='$ ' sh"];
        await_that("a terminal", || Ok(terminal.tmux(&session)), Result::is_ok)??;
        Ok(terminal)
    }

    /// The lines that it shows, without blanks at their ends.
    ///
    /// # Errors
    /// When tmux is gone.
    pub fn screen(&self) -> Result<Vec<String>> {
        let shown = self.tmux(&["capture-pane", "-p"])?;
        Ok(shown.lines().map(|line| line.trim_end().to_owned()).collect())
    }

    /// Waits until it shows what is expected.
    ///
    /// # Errors
    /// With what it shows instead.
    pub fn await_screen(&self, expected: &str, holds: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        await_that(expected, || self.screen(), |screen| holds(screen))
    }

    /// Presses keys, named as tmux(1) does: `q`, `Down`, `C-c`.
    ///
    /// # Errors
    /// When tmux is gone.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys", "--"], keys].concat()).map(drop)
    }

    /// Types a line for the shell.
    ///
    /// # Errors
    /// When tmux is gone.
    pub fn enter(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", "--", line])?;
        self.press(&["Enter"])
    }

    /// Changes its size.
    ///
    /// # Errors
    /// When tmux is gone.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]).map(drop)
    }

    /// Whether it shows its second screen, on which programs draw, and whether it shows the cursor.
    ///
    /// # Errors
    /// When tmux is gone.
    pub fn modes(&self) -> Result<(bool, bool)> {
        let modes = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"])?;
        let (second, cursor) = modes.trim().split_once(' ').context("read the modes of the terminal")?;
        Ok((second == "1", cursor == "1"))
    }

    fn tmux(&self, words: &[&str]) -> Result<String> {
        // -N: a client that comes before the server would start one that nobody ends.
        let command = self.host.command("tmux").args(["-u", "-N", "-S"]).arg(&self.socket).args(words);
        let output = command.env("LC_ALL", "C.UTF-8").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tmux {}: {}", words.join(" "), said.trim());
        String::from_utf8(output.stdout).context("read what tmux prints")
    }
}
