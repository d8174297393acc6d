//! A page of metrics: what each one is, and its samples as text.

use prometheus::TextEncoder;
use prometheus::proto::{self, Bucket, LabelPair, MetricFamily, MetricType};

use crate::health::{BOUNDS, Durations};

/// What is measured, and how it reads.
#[derive(Debug)]
pub(super) struct Metric {
    /// Its name.
    pub(super) name: &'static str,
    /// How its values are meant.
    pub(super) kind: Kind,
    /// By what its samples are told apart.
    pub(super) labels: &'static [&'static str],
    /// What it is, in a sentence.
    pub(super) help: &'static str,
}

/// How values are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// They only grow.
    Counter,
    /// They go up and down.
    Gauge,
    /// They are counted by size.
    Histogram,
}

pub(super) const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

pub(super) const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

pub(super) const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// The text so far, in the format 0.0.4. Each metric is made and written by itself, so that only one of them takes memory.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Room for about so many bytes.
    pub(super) fn with_room(bytes: usize) -> Page {
        Page(String::with_capacity(bytes))
    }

    /// Writes a counter or a gauge: its samples' labels, in the metric's order, and values. One without samples is left out.
    pub(super) fn write<'a, const N: usize>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) {
        let sample = |(labels, value): ([&str; N], f64)| {
            let mut sample = proto::Metric::from_label(pairs(metric, labels));
            if metric.kind == Kind::Counter {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            } else {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
            sample
        };
        self.finish(metric, samples.into_iter().map(sample).collect());
    }

    /// Writes the only sample of a metric without labels.
    pub(super) fn value(&mut self, metric: &Metric, value: f64) {
        self.write(metric, [([], value)]);
    }

    /// Writes histograms.
    pub(super) fn write_durations<'a, const N: usize>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'a str; N], &'a Durations)>,
    ) {
        let sample = |(labels, durations): ([&str; N], &Durations)| {
            let mut sample = proto::Metric::from_label(pairs(metric, labels));
            sample.set_histogram(histogram_of(durations));
            sample
        };
        self.finish(metric, samples.into_iter().map(sample).collect());
    }

    /// All that was written.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn finish(&mut self, metric: &Metric, samples: Vec<proto::Metric>) {
        if samples.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(metric.name.to_owned());
        family.set_help(metric.help.to_owned());
        family.set_field_type(match metric.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(samples);
        // It fails for a family without a name or a sample only.
        let written = TextEncoder::new().encode_utf8(&[family], &mut self.0);
        debug_assert!(written.is_ok(), "{written:?}");
    }
}

/// 1 for yes, 0 for no.
pub(super) fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn pairs<const N: usize>(metric: &Metric, values: [&str; N]) -> Vec<LabelPair> {
    debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
    let pair = |(name, value): (&&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    metric.labels.iter().zip(values).map(pair).collect()
}

fn histogram_of(durations: &Durations) -> proto::Histogram {
    let bucket = |(bound, count): (f64, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(BOUNDS.into_iter().zip(durations.at_most()).map(bucket).collect());
    histogram.set_sample_count(durations.count());
    histogram.set_sample_sum(durations.sum().as_secs_f64());
    histogram
}
