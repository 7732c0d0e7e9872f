//! Every reason for which an exchange gives no sample, declared once: variant, label, text and documentation.

use crate::ntp::packet::Kiss;

impl RejectReason {
    /// Is the server or the network at fault, and not the node?
    pub const fn is_of_server(self) -> bool {
        !matches!(self, Self::Suspended)
    }
}

/// Declares [`RejectReason`]. A variant with data names it, so that its text can depend on it.
macro_rules! reject_reasons {
    ($($(#[doc = $doc:literal])* $name:ident $(($data:ident: $type:ty))? = $label:literal, $text:expr;)*) => {
        /// Why an exchange gave no sample; also the label `result` of `drift_agent_samples_total`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RejectReason {
            $($(#[doc = $doc])* $name $(($type))?,)*
        }

        impl RejectReason {
            /// Every label, so that each series exists from the start.
            pub const LABELS: &'static [&'static str] = &[$($label),*];

            /// The label `result`.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name { .. } => $label,)* }
            }

            /// What happened, in a few words, for operators.
            pub const fn in_words(self) -> &'static str {
                match self { $(Self::$name $(($data))? => $text,)* }
            }
        }
    };
}

reject_reasons! {
    /// The answer did not arrive before the time-out.
    Timeout = "timeout", "no answer";
    /// The network reported an error: no route, or the port is closed.
    Unreachable = "unreachable", "no route, or the port is closed";
    /// The packet is too short, of an unknown version, or not a server's answer.
    Malformed = "malformed", "malformed answer";
    /// The originate timestamp is not that of the request (RFC 5905 section 8).
    WrongOrigin = "wrong_origin", "answer to a request that was not sent";
    /// The server sent a kiss-o'-death (RFC 5905 section 7.4).
    Kiss(kiss: Kiss) = "kiss_of_death", kiss.in_words();
    /// Stratum 16 or above, or leap indicator 3 (alarm).
    Unsynchronised = "unsynchronised", "reports that it is not synchronised";
    /// The receive or transmit timestamp is zero, which means "unknown".
    ZeroTimestamp = "zero_timestamp", "timestamp of zero";
    /// The transmit timestamp is earlier than the receive timestamp.
    TransmitBeforeReceive = "transmit_before_receive", "transmit timestamp before the receive timestamp";
    /// The round trip is negative, or longer than the raw clock counted.
    ImpossibleRoundTrip = "impossible_round_trip", "impossible round trip";
    /// The round trip is longer than `maxRoundTrip`.
    SlowRoundTrip = "slow_round_trip", "round trip over the limit";
    /// The root distance is larger than `maxRootDistance`, and the pool has no `rootDistance`.
    RootDistance = "root_distance", "root distance over the limit: a Windows domain controller? set rootDistance for this pool";
    /// The machine was suspended during the exchange, so that the raw clock did not count all of it.
    Suspended = "suspended", "the machine was suspended while measuring";
    /// Two exchanges by rsntp in a row contradicted the agent's own client.
    ClientsDisagree = "clients_disagree", "two clients measure it differently";
    /// The server's samples contradict each other: its clock jumps, or several clocks share the address.
    ServerInconsistent = "server_inconsistent", "contradicts itself: several clocks behind one address?";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_in_snake_case() {
        let distinct: std::collections::BTreeSet<&str> = RejectReason::LABELS.iter().copied().collect();
        assert_eq!(distinct.len(), RejectReason::LABELS.len());
        let is_plain = |label: &&str| label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(distinct.iter().all(is_plain), "{distinct:?}");
    }

    #[test]
    fn every_kiss_code_has_one_label_and_its_own_text() {
        let kisses = [Kiss::Rate, Kiss::Deny, Kiss::Other].map(RejectReason::Kiss);
        assert!(kisses.iter().all(|reason| reason.label() == "kiss_of_death"));
        let texts = kisses.map(RejectReason::in_words);
        assert_eq!(texts[1], "denies service (kiss-o'-death)");
        assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
    }
}
