//! What a log counts, for those who operate it.

/// Upper bounds of the classes of commits by their duration, in microseconds; the last class has none.
pub const COMMIT_BUCKETS_US: [u64; 11] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000];

/// Counters and gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Commits by their duration, each class without those before it.
    pub commits: [u64; COMMIT_BUCKETS_US.len() + 1],
    /// What they took together, in microseconds.
    pub commit_us: u64,
    /// Commits that failed.
    pub failures: u64,
    /// Rows of messages.
    pub rows: u64,
    /// Rows that were swept.
    pub swept: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

impl Figures {
    /// Counts a commit.
    pub fn count(&mut self, us: u64) {
        let class = COMMIT_BUCKETS_US.partition_point(|&bound| bound < us);
        self.commits[class] += 1;
        self.commit_us += us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_counted_in_the_class_that_holds_it() {
        let mut figures = Figures::default();
        for us in [0, 250, 251, 2_500_000, 2_500_001] {
            figures.count(us);
        }
        assert_eq!(figures.commits, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(figures.commit_us, 5_000_502);
    }
}
