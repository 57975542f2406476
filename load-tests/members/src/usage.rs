use anyhow::Context as _;

/// Kernel ticks a second in `/proc`: 100 on every architecture that Linux runs attain on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used since its start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Processor time in user and kernel mode, ended threads included, in seconds; to 10 ms.
    pub cpu_seconds: f64,
    /// Memory that is resident now, in bytes.
    pub resident_bytes: u64,
    /// Most memory that was ever resident, in bytes.
    pub peak_bytes: u64,
}

impl Usage {
    /// Reads `/proc/ID/stat` and `/proc/ID/status`.
    ///
    /// # Errors
    /// Where there is no such process.
    pub fn of(id: u32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{id}/{file}")).with_context(|| format!("process {id} has ended"))
        };
        let ticks = ticks(&read("stat")?).with_context(|| format!("/proc/{id}/stat cannot be read"))?;
        let status = read("status")?;
        Ok(Self {
            cpu_seconds: ticks as f64 / TICKS_PER_SECOND,
            resident_bytes: kibibytes(&status, "VmRSS:") * 1024,
            peak_bytes: kibibytes(&status, "VmHWM:") * 1024,
        })
    }

    /// Processor time since an earlier look, in seconds.
    #[must_use]
    pub fn cpu_since(&self, earlier: &Self) -> f64 {
        self.cpu_seconds - earlier.cpu_seconds
    }
}

/// Fields 14 and 15, utime and stime; the name in field 2 may hold anything, so counting starts behind it.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn kibibytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_a_hostile_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 3 0 100 1 2";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (attain"), None);
        let status = "Name:\tattain\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!((kibibytes(status, "VmHWM:"), kibibytes(status, "VmRSS:")), (2048, 1024));
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).expect("it runs");
        assert!(usage.resident_bytes > 0 && usage.peak_bytes >= usage.resident_bytes / 2, "{usage:?}");
        assert!(Usage::of(u32::MAX).is_err());
    }
}
