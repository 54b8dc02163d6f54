//! The language of manual pages, as far as it is used here: `man(7)`.

/// A manual page in the making.
pub struct Page(String);

impl Page {
    /// A page with its title and its name.
    pub fn new(name: &str, section: &str, about: &str) -> Page {
        Page(format!(
            ".TH {name} {section} \"\" \"preforkd {}\"\n.SH NAME\n{name} \\- {}\n",
            env!("CARGO_PKG_VERSION"),
            escaped(about)
        ))
    }

    /// Begins a section.
    pub fn section(&mut self, title: &str) {
        self.0 += &format!(".SH {}\n", title.to_uppercase());
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.0 += &format!(".PP\n{}\n", escaped(text));
    }

    /// A term and what there is to say of it.
    pub fn term(&mut self, term: &str, text: &str) {
        self.0 += &format!(".TP\n\\fB{}\\fR\n{}\n", escaped(term), escaped(text));
    }

    /// A further paragraph of a term.
    pub fn further(&mut self, text: &str) {
        self.0 += &format!(".RS\n.PP\n{}\n.RE\n", escaped(text));
    }

    /// Lines as they are.
    pub fn verbatim(&mut self, text: &str) {
        self.0 += ".PP\n.nf\n.RS\n";
        for line in text.lines() {
            self.0 += &escaped(line);
            self.0.push('\n');
        }
        self.0 += ".RE\n.fi\n";
    }

    /// What is in this language already.
    pub fn raw(&mut self, text: &str) {
        self.0 += text;
    }

    /// The text of the page.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// Text that the language leaves as it is.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text
        .lines()
        .map(|line| match line.starts_with(['.', '\'']) {
            true => format!("\\&{line}"),
            false => line.to_owned(),
        });
    lines.collect::<Vec<_>>().join("\n")
}
