//! The `Date` header: IMF-fixdate (RFC 9110, section 5.6.7).

use std::cell::Cell;

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Length of an IMF-fixdate.
pub const HTTP_DATE_LEN: usize = 29;

/// An IMF-fixdate.
pub type HttpDate = [u8; HTTP_DATE_LEN];

/// The date of second 0.
const FIRST: HttpDate = *b"Thu, 01 Jan 1970 00:00:00 GMT";

/// The date that was asked for last: every answer of a second has the same.
#[derive(Debug)]
pub struct Dates(Cell<(u64, HttpDate)>);

impl Default for Dates {
    fn default() -> Self {
        Self(Cell::new((0, FIRST)))
    }
}

impl Dates {
    /// `unix` seconds, as [`http_date`] writes them.
    pub fn at(&self, unix: u64) -> HttpDate {
        let (last, text) = self.0.get();
        if last == unix {
            return text;
        }
        self.renew(unix)
    }

    #[cold]
    fn renew(&self, unix: u64) -> HttpDate {
        let text = http_date(unix);
        self.0.set((unix, text));
        text
    }
}

/// `unix` seconds as `Sun, 06 Nov 1994 08:49:37 GMT`; always 29 bytes (years beyond 9999 wrap).
pub fn http_date(unix: u64) -> HttpDate {
    let days = unix / 86_400;
    let second = unix % 86_400;
    let (year, month, day) = civil(days);
    let mut out = FIRST;
    out[0..3].copy_from_slice(DAYS[(days % 7) as usize]);
    two(&mut out[5..7], day);
    out[8..11].copy_from_slice(MONTHS[month as usize]);
    two(&mut out[12..14], year / 100 % 100);
    two(&mut out[14..16], year % 100);
    two(&mut out[17..19], second / 3600);
    two(&mut out[20..22], second / 60 % 60);
    two(&mut out[23..25], second % 60);
    out
}

fn two(out: &mut [u8], value: u64) {
    out[0] = b'0' + (value / 10 % 10) as u8;
    out[1] = b'0' + (value % 10) as u8;
}

/// Days since 1970 as (year, month from 0, day from 1), in the proleptic Gregorian calendar: counted in
/// eras of 400 years that begin on a 1 March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::{Dates, http_date};

    #[test]
    fn dates_of_the_rfc_and_the_calendars_corners() {
        let check = |unix, text: &str| assert_eq!(std::str::from_utf8(&http_date(unix)).unwrap(), text);
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
        check(1_795_305_600, "Sun, 22 Nov 2026 00:00:00 GMT");
        check(1_795_305_600, "Sun, 22 Nov 2026 00:00:00 GMT");
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn what_is_remembered_is_what_was_asked_for() {
        let dates = Dates::default();
        for unix in [0, 784_111_777, 784_111_777, 784_111_778, 0] {
            assert_eq!(dates.at(unix), http_date(unix));
        }
    }
}
