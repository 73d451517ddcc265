//! Formats the times of certificates.

use rustls::pki_types::UnixTime;

/// Formats a time like `2024-02-29 23:59 UTC`.
pub(super) fn utc(time: UnixTime) -> String {
    let minutes = time.as_secs() / 60;
    let (hour, minute) = (minutes / 60 % 24, minutes % 60);
    let (year, month, day) = civil(minutes / (60 * 24));
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Converts days since 1970-01-01 to year, month and day (Howard Hinnant's `civil_from_days`). It uses eras of 400
/// years, which all have the same number of days. Years start in March, so that a leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + BEFORE_1970;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// Converts year, month and day to the number of days from 1970-01-01, and whether they are before it. The inverse of
/// `civil` (Howard Hinnant's `days_from_civil`).
pub(super) fn days_from_civil(year: u64, month: u64, day: u64) -> (u64, bool) {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * ERA + day_of_era;
    (days.abs_diff(BEFORE_1970), days < BEFORE_1970)
}

/// The days from 0000-03-01 to 1970-01-01.
const BEFORE_1970: u64 = 719_468;
/// The days of 400 years.
const ERA: u64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_follows_the_one_before() {
        let leap = |year| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..365 * 500 {
            assert_eq!(civil(days), (year, month, day));
            assert_eq!(days_from_civil(year, month, day), (days, false));
            let last = match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!(days_from_civil(1969, 12, 31), (1, true));
        assert_eq!(civil(u64::MAX / 86_400).0, 584_554_051_223, "no time overflows");
    }
}
