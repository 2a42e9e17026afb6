//! National identity, social security and tax numbers of large countries, with their checksums. Numbers
//! that have little more than one check digit count only after a telling name or in their usual groups.

pub(super) mod argentina;
pub(super) mod australia;
pub(super) mod brazil;
pub(super) mod canada;
pub(in super::super) mod china;
pub(super) mod france;
pub(super) mod germany;
pub(super) mod india;
pub(in super::super) mod italy;
pub(super) mod japan;
pub(super) mod korea;
pub(in super::super) mod mexico;
pub(super) mod netherlands;
pub(super) mod poland;
pub(super) mod russia;
pub(super) mod south_africa;
pub(in super::super) mod spain;
pub(super) mod turkey;
pub(in super::super) mod united_kingdom;
