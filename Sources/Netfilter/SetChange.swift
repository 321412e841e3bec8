/// What a knock changes for its addresses.
public enum SetChange: Sendable {
  case open(milliseconds: UInt64)
  /// Elements without a timeout may be somebody else's.
  case close(sparingPermanent: Bool)

  /// How long an address stays after the change, in milliseconds; nil if it does not.
  ///
  /// - Parameter rest: how long it would stay without the change; nil if it is not in the set.
  public func time(after rest: UInt64?) -> UInt64? {
    switch self {
    case .open(let milliseconds): max(milliseconds, rest ?? 0)
    case .close(let sparesPermanent): sparesPermanent && rest == SetElement.forever ? rest : nil
    }
  }
}
