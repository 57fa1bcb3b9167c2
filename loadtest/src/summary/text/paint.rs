//! Colours of a terminal, or none.

#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    pub(super) colour: bool,
}

impl Paint {
    pub(super) fn bold(self, text: &str) -> String {
        self.paint(text, "1")
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.paint(text, "2")
    }

    pub(super) fn red(self, text: &str) -> String {
        self.paint(text, "31")
    }

    pub(super) fn green(self, text: &str) -> String {
        self.paint(text, "32")
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.paint(text, "33")
    }

    pub(super) fn cyan(self, text: &str) -> String {
        self.paint(text, "36")
    }

    fn paint(self, text: &str, code: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
