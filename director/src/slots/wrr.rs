//! Smooth weighted round robin, the order of nginx's upstream module: at each step everyone's credit grows by
//! its weight, the one of the most credit (the first of equals) is chosen and pays the sum of all weights.
//! Weights 5, 1, 1 give `a a b a c a a`; after sum/gcd steps it repeats, and that period is the table.

use std::cmp::Reverse;

use super::Entrant;

/// One period in at most `size` slots; longer ones are scaled down: [`shares`].
pub(super) fn table(entrants: &[Entrant], size: usize) -> Vec<u16> {
    let (entrants, shares) = shares(entrants, size);
    let period: i64 = shares.iter().sum();
    let mut laps = Lap::group(&entrants, &shares);
    (0..period).map_while(|_| step(&mut laps, period)).collect()
}

/// Steps until the order repeats.
pub(super) fn period(weights: impl Iterator<Item = u16>) -> u64 {
    let (sum, divisor) =
        weights.fold((0, 0), |(sum, divisor), w| (sum + u64::from(w), gcd(divisor, w.into())));
    sum.checked_div(divisor).unwrap_or(0)
}

/// Whom the table holds and how many slots each gets: weight/gcd where the period fits; else `size` slots by
/// the method of largest remainders, where nobody whose share is less than a slot is left without one. Then
/// each of the others is within a slot of its share of what is left. Where entrants outnumber the slots, the
/// lightest (of equals, the last in the list) are left out.
fn shares(entrants: &[Entrant], size: usize) -> (Vec<Entrant>, Vec<i64>) {
    let mut entrants = entrants.to_vec();
    if entrants.len() > size {
        entrants.sort_by_key(|entrant| Reverse(entrant.weight));
        entrants.truncate(size);
        entrants.sort_by_key(|entrant| entrant.index);
    }
    let mut shares: Vec<u64> = entrants.iter().map(|entrant| entrant.weight.into()).collect();
    reduce(&mut shares);
    if shares.iter().sum::<u64>() > size as u64 {
        shares = scale(&shares, size as u64);
        reduce(&mut shares);
    }
    (entrants, shares.into_iter().map(u64::cast_signed).collect())
}

/// Divides by the greatest common divisor.
fn reduce(shares: &mut [u64]) {
    let divisor = shares.iter().copied().fold(0, gcd);
    shares.iter_mut().for_each(|share| *share /= divisor);
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `slots` in proportion to `weights` by largest remainders, but at least one each; there must be enough for
/// that.
fn scale(weights: &[u64], slots: u64) -> Vec<u64> {
    let mut ascending: Vec<usize> = (0..weights.len()).collect();
    ascending.sort_by_key(|&i| weights[i]);
    let (mut slots, mut sum) = (slots, weights.iter().sum::<u64>());
    let mut shares = vec![0; weights.len()];

    // Lifting one to a slot leaves a little less for each of the others, so the next heavier may need it too.
    let mut lifted = 0;
    while let Some(&i) = ascending.get(lifted).filter(|&&i| weights[i] * slots < sum) {
        shares[i] = 1;
        slots -= 1;
        sum -= weights[i];
        lifted += 1;
    }

    let mut rest = ascending.split_off(lifted);
    for &i in &rest {
        shares[i] = weights[i] * slots / sum;
    }
    let left = slots - rest.iter().map(|&i| shares[i]).sum::<u64>();
    rest.sort_by_key(|&i| (Reverse(weights[i] * slots % sum), i));
    for &i in &rest[..left as usize] {
        shares[i] += 1;
    }
    shares
}

/// Entrants of one weight. Their credits grow alike, so they are chosen strictly in turn, and only the next
/// one's credit need be kept. That makes a step cost the number of different weights, which is below √(2 ×
/// period), and not the number of entrants.
struct Lap {
    weight: i64,
    /// The credit of the next one.
    credit: i64,
    members: Vec<u16>,
    next: usize,
}

impl Lap {
    fn group(entrants: &[Entrant], shares: &[i64]) -> Vec<Lap> {
        let mut order: Vec<usize> = (0..entrants.len()).collect();
        order.sort_by_key(|&i| shares[i]);
        let lap = |same: &[usize]| Lap {
            weight: shares[same[0]],
            credit: 0,
            members: same.iter().map(|&i| entrants[i].index).collect(),
            next: 0,
        };
        order.chunk_by(|&a, &b| shares[a] == shares[b]).map(lap).collect()
    }

    /// Takes the next one; after the last, the first is next, who paid in this lap already.
    fn choose(&mut self, period: i64) -> u16 {
        let chosen = self.members[self.next];
        self.next += 1;
        if self.next == self.members.len() {
            self.next = 0;
            self.credit -= period;
        }
        chosen
    }
}

/// One step for all: the choice, unless there is nobody.
fn step(laps: &mut [Lap], period: i64) -> Option<u16> {
    let mut best: Option<&mut Lap> = None;
    for lap in laps {
        lap.credit += lap.weight;
        let rank = |lap: &Lap| (lap.credit, Reverse(lap.members[lap.next]));
        if best.as_ref().is_none_or(|best| rank(lap) > rank(best)) {
            best = Some(lap);
        }
    }
    best.map(|lap| lap.choose(period))
}
