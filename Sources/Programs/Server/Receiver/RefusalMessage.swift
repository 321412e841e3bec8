import KnockProtocol
import KnockServer

extension Verdict.Header {
  /// What was refused: `open 192.0.2.1`, or `a datagram` if it is no knock.
  var subject: Message {
    if let knock { isCheck ? "check \(knock.address)" : "\(knock)" } else { "a datagram" }
  }

  /// Why the datagram was refused, and how far its sender's clock differs from ours.
  func reason(_ refusal: Refusal) -> Message {
    "\(refusal.reason)\(details(refusal)), clock skew \(skew) s"
  }

  private func details(_ refusal: Refusal) -> Message {
    switch refusal {
    case .unknownCommand: " \(command)"
    case .unknownFamily, .familyLengthMismatch: " (family \(family), \(length) bytes)"
    case .unspecifiedAddress:
      " (only --allow-observed-source replaces it by the sender's address)"
    default: ""
    }
  }

  private var skew: Message {
    if let clockSkew { "\(signedSeconds: clockSkew)" } else { "nan" }
  }
}
