import KnockBase
import KnockProtocol
import Netfilter

/// Changes the sets of the kernel that the user named, or that an earlier server has changed.
///
/// It asks the kernel about a set before each change, since rules may be loaded again at any time.
struct Firewall: ~Copyable {
  let settings: FirewallSettings
  var socket: NetfilterSocket
  var intervals: IntervalChange
  /// What `duration` has just asked, for the open that follows.
  var nftAnswer: NftAnswer?
  var ipsetAnswer: IPSetKind?
  /// Whether the last change was too large, so that only the address itself was opened.
  var opensOnlyHost = false

  /// Connects to the kernel.
  init(_ settings: FirewallSettings) throws(SystemError) {
    guard let boundaries = Storage<Boundary>.mapped(IntervalChange.capacity) else {
      throw .outOfMemory
    }
    socket = try NetfilterSocket()
    self.settings = settings
    intervals = IntervalChange(boundaries)
  }

  /// Checks that the set for a family can be used as the settings say, if there is one.
  mutating func check(
    _ family: AddressFamily, _ settings: FirewallSettings
  ) throws(FirewallError.Reason) {
    guard let set = settings.set(for: family) else { return }
    let isPrefix = settings.grantsPrefixes(for: family)
    switch set {
    case .nft(let set):
      let kind = try inspect(set).kind
      try kind.check(hasTime: settings.seconds != nil, isPrefix: isPrefix)
      guard try !isOwned(set.table) else { throw .ownedTable }
    case .ipset(let set):
      try inspect(set).check(hasTime: settings.seconds != nil, isPrefix: isPrefix)
    }
  }

  /// Why it cannot be used.
  @inline(never)
  mutating func error(
    of family: AddressFamily, _ settings: FirewallSettings
  ) -> FirewallError.Reason? {
    do throws(FirewallError.Reason) {
      try check(family, settings)
      return nil
    } catch { return error }
  }

  /// How long the kernel keeps what a knock opens (microseconds): the time of --ttl, or else of the set itself. Nil
  /// for ever, or if the set cannot be asked.
  mutating func duration(for family: AddressFamily) -> Int64? {
    if let seconds = settings.seconds { return seconds * Microseconds.second }
    (nftAnswer, ipsetAnswer) = (nil, nil)
    let milliseconds: UInt64
    do throws(FirewallError.Reason) {
      switch settings.set(for: family) {
      case .nft(let set):
        let answer = try inspect(set)
        nftAnswer = answer
        milliseconds = answer.kind.defaultTimeout
      case .ipset(let set):
        let kind = try inspect(set)
        ipsetAnswer = kind
        milliseconds = (kind.defaultTimeout ?? 0) * 1000
      case nil: return nil
      }
    } catch { return nil }
    let longest = 366 * 86_400 * Microseconds.second
    return milliseconds > 0 ? min(Int64(clamping: milliseconds), longest / 1000) * 1000 : nil
  }

  /// Opens or closes a range. It is done when this returns.
  ///
  /// - Parameters:
  ///   - host: the address in it that the knock named.
  ///   - prefixLength: what `range` is a part of, or all.
  /// - Returns: whether something was changed.
  mutating func change(
    _ range: AddressRange, prefixLength: Int, host: Address, in set: FirewallSet,
    by change: SetChange
  ) throws(FirewallError) -> Bool {
    do throws(FirewallError.Reason) {
      switch set {
      case .nft(let set): return try self.change(range, host: host, in: set, by: change)
      case .ipset(let set):
        return try self.change(range, prefixLength: prefixLength, in: set, by: change)
      }
    } catch {
      throw FirewallError(reason: error, set: set, settings: settings, wasFound: true)
    }
  }

  /// Whether a set holds an address.
  @inline(never)
  mutating func holds(
    _ address: Address, in set: FirewallSet
  ) throws(FirewallError.Reason) -> Bool {
    let range = AddressRange(address, prefixLength: address.family.addressBits)
    switch set {
    case .nft(let set):
      guard try inspect(set).kind.holds(address.family) else { throw .otherType }
      return try boundary(of: set) { $0.getElement(range.first, of: set) } != nil
    case .ipset(let set):
      guard try inspect(set).holds(address.family) else { throw .otherType }
      return try test(range, prefixLength: address.family.addressBits, in: set)
    }
  }
}
