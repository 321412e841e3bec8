import KnockBase
import KnockProtocol
import Netfilter

/// Changes the sets of the kernel that the user named.
///
/// It asks the kernel about a set before each change, since rules may be loaded again at any time.
struct Firewall: ~Copyable {
  let settings: FirewallSettings
  var socket: NetfilterSocket
  var intervals: IntervalChange

  /// Connects to the kernel.
  init(_ settings: FirewallSettings) throws(SystemError) {
    guard let boundaries = Storage<Boundary>.mapped(IntervalChange.capacity) else {
      throw .outOfMemory
    }
    socket = try NetfilterSocket()
    self.settings = settings
    intervals = IntervalChange(boundaries)
  }

  /// Checks that the set for a family can be used, if there is one.
  mutating func check(_ family: AddressFamily) throws(FirewallError.Reason) {
    switch settings.set(for: family) {
    case .nft(let set):
      _ = try inspect(set)
      guard try !isOwned(set.table) else { throw .ownedTable }
    case .ipset(let set): try check(set)
    case nil: break
    }
  }

  /// Opens or closes access for the address of a knock. It is done when this returns.
  ///
  /// - Returns: whether something was changed, as far as is known.
  mutating func apply(_ knock: Knock) throws(FirewallError) -> Bool {
    let family = knock.address.family
    do throws(FirewallError.Reason) {
      switch settings.set(for: family) {
      case .nft(let set): return try change(set, for: knock)
      case .ipset(let set):
        try change(set, for: knock)
        return true
      case nil: return false
      }
    } catch {
      throw FirewallError(reason: error, family: family, settings: settings, wasFound: true)
    }
  }
}
