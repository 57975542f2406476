use attain_vocabulary::EntityId;

/// Why a fleet was refused, or why it could not be solved.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A ratio is not a number in `[0, 1]`.
    #[error("{field} must be a number from 0 to 1, not {value}")]
    RatioOutOfRange {
        /// Name of the field.
        field: &'static str,
        /// What was given.
        value: f64,
    },
    /// The same service was added twice.
    #[error("service_id {service} was given twice; state each service once")]
    DuplicateService {
        /// The service.
        service: EntityId,
    },
    /// An edge or a group names a service that the fleet does not hold.
    #[error("{field} names {service}, which is not among the services")]
    UnknownService {
        /// Name of the field.
        field: &'static str,
        /// What was given.
        service: EntityId,
    },
    /// A group asks for none of its members or for more than it has.
    #[error("required_count of a group of {caller} must be from 1 to its {member_count} members, not {required_count}")]
    RequiredCountOutOfRange {
        /// Who depends on the group.
        caller: EntityId,
        /// What was given.
        required_count: usize,
        /// Distinct members.
        member_count: usize,
    },
    /// The closures together are larger than the limit.
    #[error(
        "the closures of {service_count} services hold more than {limit} entries; solve parts of the tenant that share nothing, or raise closure_entries_max"
    )]
    ClosureTooLarge {
        /// Services of the fleet.
        service_count: usize,
        /// The limit.
        limit: usize,
    },
    /// A cycle keeps asking for a little more.
    #[error("budgets around a cycle still grew after {passes} passes; soften an edge of the cycle")]
    CycleNotSettled {
        /// Passes over the fleet.
        passes: usize,
    },
    /// The exact evaluator still finds a target missed after the last round of cuts.
    #[error(
        "after {rounds} rounds the exact evaluation of {service} still fails {failure_ratio} of requests, over its error budget of {budget}"
    )]
    NotSettled {
        /// The service.
        service: EntityId,
        /// Rounds of cuts.
        rounds: usize,
        /// Exact failure ratio.
        failure_ratio: f64,
        /// Error budget.
        budget: f64,
    },
}
