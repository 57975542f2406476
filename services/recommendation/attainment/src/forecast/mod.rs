//! The predictive distribution of the bad fraction of the next window.

mod chronic;
mod incident;

pub use chronic::{ChronicEvidence, ChronicForecast, Level};
pub use incident::{Constants, IncidentForecast};

use serde::{Deserialize, Serialize};

use crate::calibration::Layer;

use crate::beta::is_smooth;

/// Cells that the chronic part is cut into for the sum with the incident part.
const CELLS: usize = 64;
/// Reach of the cells around the chronic mean, in standard deviations.
const REACH_BELOW: f64 = 6.0;
const REACH_ABOVE: f64 = 12.0;

/// Bad fraction of the next window: chronic level plus incidents, independent of one another, at most 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Parts", into = "Parts")]
pub struct Forecast {
    parts: Parts,
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Parts {
    chronic: Option<ChronicForecast>,
    incident: IncidentForecast,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<Layer>,
}

/// A value of the chronic part and its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cell {
    ratio: f64,
    probability: f64,
}

impl Forecast {
    /// Adds both parts. Without a chronic part (a history that is a list of incidents) only incidents count.
    #[must_use]
    pub fn new(chronic: Option<ChronicForecast>, incident: IncidentForecast) -> Self {
        let parts = Parts { chronic, incident, layer: None };
        Self { parts, cells: chronic.as_ref().map(cells).unwrap_or_default() }
    }

    /// The same under another layer: what it says of probabilities and quantiles is mended by it, the mean is not.
    #[must_use]
    pub fn with_layer(mut self, layer: Option<Layer>) -> Self {
        self.parts.layer = layer.filter(Layer::applies);
        self
    }

    /// Probability that the bad fraction of the next window is greater than the budget `1 - target`; never rises with it.
    ///
    /// `p0 P(C > b) + (1 - p0) sum_i w_i P(E > b - c_i)`: the chronic part alone in closed form, its sum with incidents by
    /// a fixed quadrature over 64 cells of the chronic part; then through the layer, where there is one.
    #[must_use]
    pub fn miss_probability(&self, budget: f64) -> f64 {
        let stated = self.stated(budget);
        self.parts.layer.as_ref().map_or(stated, |layer| layer.probability(stated))
    }

    /// The probability before any layer.
    fn stated(&self, budget: f64) -> f64 {
        if budget.is_nan() || budget < 0.0 {
            return 1.0;
        }
        if budget >= 1.0 {
            return 0.0;
        }
        let incident = &self.parts.incident;
        let Some(chronic) = &self.parts.chronic else {
            return incident.exceed(budget);
        };
        let without = chronic.exceed(budget);
        // Cells ascend: those below the budget leave something of it to incidents, the others use it up.
        let within = self.cells.partition_point(|cell| cell.ratio < budget);
        let mut exceeded = [1.0; CELLS];
        exceeded.iter_mut().zip(&self.cells[..within]).for_each(|(rest, cell)| *rest = budget - cell.ratio);
        incident.exceed_each_given_any(&mut exceeded[..within]);
        let with: f64 = self.cells.iter().zip(exceeded).map(|(cell, exceeded)| cell.probability * exceeded).sum();
        let none = incident.no_incident_probability();
        (none * without + (1.0 - none) * with).clamp(0.0, 1.0)
    }

    /// The bad fraction that is not exceeded with probability `p`, to a relative 1e-6; 0 when it is below 1e-14.
    #[must_use]
    pub fn quantile(&self, p: f64) -> f64 {
        let missed = 1.0 - if p.is_nan() { 0.0 } else { p.clamp(0.0, 1.0) };
        let (mut low, mut high) = (libm::log(1e-14), 0.0f64);
        if self.miss_probability(libm::exp(low)) <= missed {
            return 0.0;
        }
        while high - low > 1e-6 {
            let middle = (low + high) / 2.0;
            if self.miss_probability(libm::exp(middle)) <= missed { high = middle } else { low = middle }
        }
        libm::exp(high)
    }

    /// Expected bad fraction.
    #[must_use]
    pub fn mean(&self) -> f64 {
        (self.chronic_mean() + self.parts.incident.mean()).min(1.0)
    }

    /// Expected bad fraction of the chronic level alone.
    #[must_use]
    pub fn chronic_mean(&self) -> f64 {
        self.parts.chronic.as_ref().map_or(0.0, ChronicForecast::mean)
    }

    /// The chronic part that is not exceeded with probability `p`, to the width of a cell; 0 without one.
    pub(crate) fn chronic_quantile(&self, p: f64) -> f64 {
        let mut below = 0.0;
        for cell in &self.cells {
            below += cell.probability;
            if below >= p {
                return cell.ratio;
            }
        }
        self.cells.last().map_or(0.0, |cell| cell.ratio)
    }

    /// The part that incidents bring.
    #[must_use]
    pub fn incident(&self) -> &IncidentForecast {
        &self.parts.incident
    }

    /// The same chronic level with other incidents.
    pub(crate) fn with_incident(&self, incident: IncidentForecast) -> Self {
        Self { parts: Parts { incident, ..self.parts.clone() }, cells: self.cells.clone() }
    }
}

impl From<Parts> for Forecast {
    fn from(parts: Parts) -> Self {
        Self::new(parts.chronic, parts.incident).with_layer(parts.layer)
    }
}

impl From<Forecast> for Parts {
    fn from(forecast: Forecast) -> Self {
        forecast.parts
    }
}

fn cells(chronic: &ChronicForecast) -> Vec<Cell> {
    let (mean, deviation) = (chronic.mean(), chronic.standard_deviation());
    let low = (mean - REACH_BELOW * deviation).max(0.0);
    let high = (mean + REACH_ABOVE * deviation).min(1.0);
    // Squared spacing from the lower end: where the level may be next to nothing, that is where its probability sits.
    let edge = |i: usize| {
        let share = i as f64 / CELLS as f64;
        low + (high - low) * if low == 0.0 { share * share } else { share }
    };
    let Some(law) = chronic.law() else {
        return Vec::new();
    };
    let mut beyond: f64 = 1.0;
    (0..CELLS)
        .map(|i| {
            let (start, end) = (edge(i), edge(i + 1));
            let probability = match i {
                0 => law.below(end),
                _ if i + 1 == CELLS => beyond,
                _ if is_smooth(start, end) => law.within(start, end),
                _ => beyond - law.above(end),
            };
            let cell = Cell { ratio: (start + end) / 2.0, probability: probability.clamp(0.0, beyond) };
            beyond -= cell.probability;
            cell
        })
        .filter(|cell| cell.probability > 0.0)
        .collect()
}

/// Probability of a miss after the structure changed by `delta_bad_ratio`: availability ceiling before less ceiling after,
/// positive when it got worse.
///
/// The change is added to the bad fraction of each possible window, `P(X + delta > b) = P(X > b - delta)`: right for a change
/// of the chronic level, too smooth for one that comes in few long outages. Less than no failure cannot be had, so an
/// improvement beyond what fails today gives no more than a target met.
#[must_use]
pub fn miss_probability_after_shift(forecast: &Forecast, budget: f64, delta_bad_ratio: f64) -> f64 {
    let delta = if delta_bad_ratio.is_finite() { delta_bad_ratio } else { 0.0 };
    forecast.miss_probability(budget - delta)
}

#[cfg(test)]
mod tests;
