/// Why a part of a structure was refused.
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
    /// An edge or a group names a component that the builder does not hold.
    #[error("{field} names component {index}, but there are only {component_count}")]
    UnknownComponent {
        /// Name of the field.
        field: &'static str,
        /// What was given.
        index: usize,
        /// Components added so far.
        component_count: usize,
    },
    /// A component depends on itself.
    #[error("component {index} cannot depend on itself")]
    SelfDependency {
        /// The component.
        index: usize,
    },
    /// A group asks for none of its members or for more than it has.
    #[error("required_count must be from 1 to the group's {member_count} members, not {required_count}")]
    RequiredCountOutOfRange {
        /// What was given.
        required_count: u32,
        /// Distinct members.
        member_count: usize,
    },
    /// More components than an index can name.
    #[error("a structure holds at most {limit} components")]
    TooManyComponents {
        /// The limit.
        limit: usize,
    },
}
