import KnockBase
import KnockProtocol
import KnockServer

extension Message.Parts {
  /// What was refused: `open 192.0.2.1`, or `a datagram` if it is no knock.
  @inline(never)
  mutating func appendInterpolation(_ header: Verdict.Header) {
    if let knock = header.knock {
      appendInterpolation(knock)
    } else {
      append("a datagram")
    }
  }

  /// Why a datagram was refused, and how far its sender's clock differs from ours.
  @inline(never)
  mutating func appendInterpolation(_ refusal: Refusal, _ header: Verdict.Header) {
    append(refusal.reason)
    switch refusal {
    case .unknownCommand:
      append(" ")
      append(header.command)
    case .unknownFamily, .familyLengthMismatch:
      append(" (family ")
      append(header.family)
      append(", ")
      append(header.length)
      append(" bytes)")
    case .unspecifiedAddress:
      append(" (only --allow-observed-source replaces it by the sender's address)")
    default: break
    }
    append(", clock skew ")
    if let clockSkew = header.clockSkew {
      append(signedSeconds: clockSkew)
    } else {
      append("nan")
    }
    append(" s")
  }
}
