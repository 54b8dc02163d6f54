//! How many workers a pool has.

use std::path::Path;

use preforkd_plan::scale::{Limits, Mode};

use super::check::PoolChecker;
use super::raw::{Manager, Setting};

impl PoolChecker<'_, '_> {
    /// The counts, if they agree with each other.
    pub fn limits(&mut self) -> Option<Limits> {
        let raw = self.raw;
        if matches!(raw.max_children, Setting::Unset) {
            self.missing(
                "pm.max_children must be a positive value: add the most workers that the memory is good for"
                    .to_owned(),
            );
        }
        if matches!(raw.pm, Setting::Unset) {
            self.missing(
                "the process manager is missing (static, dynamic or ondemand): add pm = dynamic"
                    .to_owned(),
            );
        }
        let mode = match raw.pm.value()? {
            Manager::Static => Mode::Static,
            Manager::Ondemand => Mode::Ondemand {
                idle_timeout: *raw.process_idle_timeout.value()?,
            },
            Manager::Dynamic => self.dynamic()?,
        };
        Some(Limits {
            mode,
            max_children: *raw.max_children.value()?,
            max_spawn_rate: *raw.max_spawn_rate.value()?,
        })
    }

    /// Warns of a limit of the queue that the kernel's own is below.
    pub fn reachable(&mut self) {
        if let (Some(&most), Some(&Some(backlog))) =
            (self.raw.max_queue.value(), self.raw.backlog.value())
            && most >= backlog
        {
            self.warning(&format!(
                "pm.max_queue({most}) is never reached: no more than listen.backlog({backlog}) connections can wait"
            ));
        }
    }

    /// Warns of a limit of memory that cannot be measured.
    pub fn measurable(&mut self, chroot: Option<&Path>) {
        let is_set = self.raw.max_memory.value().is_some_and(|bytes| *bytes > 0);
        if let Some(root) = chroot
            && is_set
            && !root.join("proc/self").exists()
        {
            self.warning("pm.max_memory does nothing: the chroot has no /proc to measure it by");
        }
    }

    fn dynamic(&mut self) -> Option<Mode> {
        let raw = self.raw;
        for (name, setting) in [
            ("pm.min_spare_servers", &raw.min_spare_servers),
            ("pm.max_spare_servers", &raw.max_spare_servers),
        ] {
            if matches!(setting, Setting::Unset) {
                self.missing(format!(
                    "{name}(0) must be a positive value: pm = dynamic needs it"
                ));
            }
        }
        let (min, max) = (
            raw.min_spare_servers.given()?,
            raw.max_spare_servers.given()?,
        );
        let (min_spare, max_spare) = (min.value, max.value);
        let sound = self.problems.len();
        if let Some(&children) = raw.max_children.value() {
            for spare in [min, max] {
                if spare.value > children {
                    let rule = format!(
                        "pm.min_spare_servers({min_spare}) and pm.max_spare_servers({max_spare}) cannot be greater than \
                         pm.max_children({children}): lower it, or raise pm.max_children"
                    );
                    self.alert(&spare.entry, rule);
                }
            }
        }
        if max_spare < min_spare {
            let rule = format!(
                "pm.max_spare_servers({max_spare}) must not be less than pm.min_spare_servers({min_spare}): raise it, or lower \
                 pm.min_spare_servers"
            );
            self.alert(&max.entry, rule);
        }
        if self.problems.len() > sound {
            return None;
        }
        let start = match &raw.start_servers {
            Setting::Given(start) => {
                if !(min_spare..=max_spare).contains(&start.value) {
                    let rule = format!(
                        "pm.start_servers({}) must not be less than pm.min_spare_servers({min_spare}) and not greater than \
                         pm.max_spare_servers({max_spare}): without it, it is {}",
                        start.value,
                        middle(min_spare, max_spare)
                    );
                    self.alert(&start.entry, rule);
                }
                start.value
            }
            Setting::Wrong => return None,
            Setting::Unset => {
                let start = middle(min_spare, max_spare);
                self.notice(&format!(
                    "pm.start_servers is not set. It's been set to {start}."
                ));
                start
            }
        };
        Some(Mode::Dynamic {
            start,
            min_spare,
            max_spare,
        })
    }
}

fn middle(min: u32, max: u32) -> u32 {
    min + (max - min) / 2
}
