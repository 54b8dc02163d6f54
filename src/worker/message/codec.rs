//! The fields of messages as bytes.

use super::{AccessSettings, LogSettings, MAX_PART, MAX_TEXT, Malformed, Overdue};
use crate::status::Pages;
use crate::status::snapshot::Facts;
use crate::zone::{Span, Zone};
use std::time::Duration;

#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn duration(&mut self, duration: Duration) {
        self.number(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn overdue(&mut self, overdue: &Overdue) {
        for text in [&overdue.script, &overdue.method, &overdue.uri] {
            self.text(&text[..text.floor_char_boundary(MAX_PART)]);
        }
        self.duration(overdue.elapsed);
        self.cut_text(&overdue.trace);
    }

    pub(super) fn cut_text(&mut self, text: &str) {
        self.text(&text[..text.floor_char_boundary(MAX_TEXT)]);
    }

    pub(super) fn list(&mut self, list: &[String]) {
        self.number(list.len() as u64);
        list.iter().for_each(|text| self.text(text));
    }

    pub(super) fn logs(&mut self, logs: &LogSettings) {
        self.byte(u8::from(logs.access.is_some()));
        if let Some(access) = &logs.access {
            self.text(&access.format);
            self.list(&access.suppress);
        }
        self.byte(u8::from(logs.has_slow_log));
        self.duration(logs.slow_timeout);
        self.number(u64::from(logs.trace_depth));
        self.zone(&logs.zone);
    }
}

impl Writer {
    pub(super) fn pages(&mut self, pages: Option<&Pages>) {
        self.byte(u8::from(pages.is_some()));
        if let Some(pages) = pages {
            self.text(&pages.facts.pool);
            self.text(&pages.facts.manager);
            self.option(pages.status_path.as_deref());
            self.option(pages.ping_path.as_deref());
            self.text(&pages.ping_response);
            self.zone(&pages.zone);
        }
    }

    pub(super) fn option(&mut self, text: Option<&str>) {
        self.byte(u8::from(text.is_some()));
        self.text(text.unwrap_or_default());
    }

    pub(super) fn zone(&mut self, zone: &Zone) {
        self.number(zone.spans().len() as u64);
        for span in zone.spans() {
            self.number(span.from.cast_unsigned());
            self.number(u64::from(span.offset.cast_unsigned()));
            self.text(&span.name);
        }
    }
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn pages(&mut self) -> Result<Option<Box<Pages>>, Malformed> {
        if self.byte()? == 0 {
            return Ok(None);
        }
        Ok(Some(Box::new(Pages {
            facts: Facts {
                pool: self.text()?,
                manager: self.text()?,
            },
            status_path: self.option()?,
            ping_path: self.option()?,
            ping_response: self.text()?,
            zone: self.zone()?,
        })))
    }

    pub(super) fn option(&mut self) -> Result<Option<String>, Malformed> {
        let some = self.byte()? != 0;
        let text = self.text()?;
        Ok(some.then_some(text))
    }

    pub(super) fn zone(&mut self) -> Result<Zone, Malformed> {
        let mut spans = Vec::new();
        for _ in 0..self.number()? {
            spans.push(Span {
                from: self.number()?.cast_signed(),
                offset: self.small()?.cast_signed(),
                name: self.text()?,
            });
        }
        Ok(Zone::from_spans(spans))
    }
}

impl Reader<'_> {
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    pub(super) fn duration(&mut self) -> Result<Duration, Malformed> {
        Ok(Duration::from_nanos(self.number()?))
    }

    pub(super) fn overdue(&mut self) -> Result<Overdue, Malformed> {
        Ok(Overdue {
            script: self.text()?,
            method: self.text()?,
            uri: self.text()?,
            elapsed: self.duration()?,
            trace: self.text()?,
        })
    }

    pub(super) fn small(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed)
    }

    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| Malformed)
    }

    pub(super) fn list(&mut self) -> Result<Vec<String>, Malformed> {
        let mut list = Vec::new();
        for _ in 0..self.number()? {
            list.push(self.text()?);
        }
        Ok(list)
    }

    pub(super) fn logs(&mut self) -> Result<LogSettings, Malformed> {
        let access = match self.byte()? {
            0 => None,
            _ => Some(AccessSettings {
                format: self.text()?,
                suppress: self.list()?,
            }),
        };
        Ok(LogSettings {
            access,
            has_slow_log: self.byte()? != 0,
            slow_timeout: self.duration()?,
            trace_depth: self.small()?,
            zone: self.zone()?,
        })
    }

    pub(super) fn end<T>(self, message: T) -> Result<T, Malformed> {
        if self.0.is_empty() {
            Ok(message)
        } else {
            Err(Malformed)
        }
    }
}
