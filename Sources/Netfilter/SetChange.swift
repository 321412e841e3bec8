/// What a knock changes for its addresses.
public enum SetChange: Sendable {
  case open(milliseconds: UInt64)
  /// Elements without a timeout may be somebody else's. Addresses that others still need stay for so many milliseconds.
  case close(sparingPermanent: Bool, leaving: UInt64 = 0)

  /// How long an address stays after the change, in milliseconds; nil if it does not.
  ///
  /// - Parameter rest: how long it would stay without the change; nil if it is not in the set.
  public func time(after rest: UInt64?) -> UInt64? {
    switch self {
    case .open(let milliseconds): max(milliseconds, rest ?? 0)
    case .close(let sparesPermanent, let milliseconds):
      if sparesPermanent && rest == SetElement.forever {
        rest
      } else {
        milliseconds > 0 ? rest.map { min($0, milliseconds) } : nil
      }
    }
  }
}
