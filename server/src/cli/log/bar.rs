//! How far a long work is, on standard error where that is a terminal.

use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

use crate::log::admin::{Stage, Step};

/// A bar, or a wheel where nobody knows how much there is to do. It goes when it is dropped.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// `counted`: what the steps count.
    pub(super) fn new(title: &'static str, counted: &'static str) -> Self {
        let bar = ProgressBar::no_length().with_message(title).with_prefix(counted);
        bar.set_style(style(WHEEL));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// None to be seen: where it would be drawn among what is written.
    pub(super) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// A wheel for work without steps.
    pub(super) fn wheel(title: &'static str) -> Self {
        let bar = Self::new(title, "");
        bar.0.set_style(style(PLAIN_WHEEL));
        bar
    }

    pub(super) fn show(&self, step: Step) {
        if let Some(total) = step.total
            && self.0.length() != Some(total)
        {
            if step.stage == Stage::Compacting {
                self.0.set_message("compacting");
                self.0.reset_eta();
            }
            self.0.set_style(style(BAR));
            self.0.set_length(total);
        }
        self.0.set_position(step.done);
    }

    /// Says a line above the bar, whether there is one or not.
    pub(super) fn say(&self, line: &str) {
        self.0.suspend(|| eprintln!("fanwire: {line}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let count = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // A bar that can't be written is no reason to stop.
        let _ = write!(out, "{}", HumanCount(state.pos()));
    };
    let style = ProgressStyle::with_template(template).expect("a template of our own");
    style.with_key("count", count).progress_chars("━╸─")
}

const PLAIN_WHEEL: &str = "{spinner} {msg}, {elapsed}";
const WHEEL: &str = "{spinner} {msg}: {count} {prefix}, {elapsed}";
const BAR: &str = "{msg} {bar:40} {percent:>3} %, {elapsed} so far, {eta} left";
const TICK: Duration = Duration::from_millis(100);
