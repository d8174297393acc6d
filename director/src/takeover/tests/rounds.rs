use std::time::{Duration, Instant};

use super::super::rounds::{FRAMES_A_STEP, MOST_SHARED, Rounds, Target, Tours};
use super::ip;
use crate::heartbeat::message::Neighbour;
use crate::model::heartbeat::Announce;

fn announce(burst: u8, refresh: Option<Duration>) -> Announce {
    Announce { burst, spacing: Duration::from_millis(200), refresh, neighbours: Vec::new(), share: None }
}

/// When rounds are due, in milliseconds, up to `end`.
fn times(rounds: &mut Rounds, announce: &Announce, start: Instant, end: u64) -> Vec<u128> {
    let mut times = Vec::new();
    while let Some(next) = rounds.next().filter(|next| *next < start + Duration::from_millis(end)) {
        assert!(rounds.due(announce, next - Duration::from_micros(1)).is_empty());
        assert_eq!(rounds.due(announce, next), ["a"]);
        times.push((next - start).as_millis());
    }
    times
}

#[test]
fn a_burst_is_followed_by_refreshes() {
    let (start, mut rounds) = (Instant::now(), Rounds::default());
    let with = announce(3, Some(Duration::from_secs(1)));
    rounds.begin("a", &with, start);
    assert_eq!(times(&mut rounds, &with, start, 3000), [200, 400, 1400, 2400]);
    rounds.end("a");
    assert_eq!(rounds.next(), None);

    let without = announce(3, None);
    rounds.begin("a", &without, start);
    assert_eq!(times(&mut rounds, &without, start, 3000), [200, 400]);
    let single = announce(1, None);
    rounds.begin("a", &single, start);
    assert_eq!(rounds.next(), None);
}

#[test]
fn a_round_that_is_late_is_not_made_up_for_by_several() {
    let (start, mut rounds, with) = (Instant::now(), Rounds::default(), announce(5, None));
    let ms = Duration::from_millis;
    rounds.begin("a", &with, start);
    assert_eq!(rounds.due(&with, start + ms(250)), ["a"]);
    assert_eq!(rounds.next(), Some(start + ms(400)));
    assert_eq!(rounds.due(&with, start + ms(900)), ["a"]);
    assert_eq!(rounds.next(), Some(start + ms(1100)));
    // From the beginning.
    rounds.begin("a", &with, start + ms(1000));
    assert_eq!(times(&mut rounds, &with, start, 5000), [1200, 1400, 1600, 1800]);
}

#[test]
fn shared_neighbours_are_told_once_each_a_few_at_a_time() {
    let start = Instant::now();
    let target =
        |n: usize| Target { index: 2, neighbour: Neighbour { address: ip("192.0.2.9"), mac: mac(n) } };
    let mut tours = Tours::default();
    tours.begin("a", (0..MOST_SHARED + 100).map(target).collect(), 3, start);
    tours.begin("b", vec![target(0)], 1, start);
    let (mut now, mut told, mut steps) = (start, Vec::new(), 0);
    while let Some(next) = tours.next() {
        assert!(next > now, "paced");
        now = next;
        let before = told.len();
        // The second VIP is of the other family: it costs no room.
        tours.step(now, |group, vip, target| {
            if vip != 1 {
                told.push((group.to_owned(), vip, target.neighbour.mac));
            }
            vip != 1
        });
        assert!(told.len() - before <= FRAMES_A_STEP);
        steps += 1;
    }
    assert_eq!(told.len(), 2 * MOST_SHARED + 1);
    assert_eq!(steps, told.len().div_ceil(FRAMES_A_STEP));
    assert_eq!(told[2], ("a".to_owned(), 0, mac(1)));
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 2 * MOST_SHARED + 1);

    tours.begin("a", vec![target(0)], 1, now);
    tours.end("a");
    tours.step(now + Duration::from_secs(1), |_, _, _| panic!("nobody is to be told"));
    assert_eq!(tours.next(), None);
}

fn mac(n: usize) -> [u8; 6] {
    [2, 0, 0, 0, (n >> 8) as u8, n as u8]
}
