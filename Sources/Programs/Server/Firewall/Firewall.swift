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

  /// How long the kernel keeps what a knock opens: the time of --ttl, or else of the set itself. For ever if the set
  /// cannot be asked.
  mutating func time(of set: FirewallSet) -> SetTime {
    let limit: Int64 = if case .ipset = set { IPSet.maximumSeconds } else { SetTime.longest }
    var time = SetTime(
      duration: settings.seconds.map { $0 * Microseconds.second },
      limit: limit * Microseconds.second)
    guard time.duration == nil else { return time }
    (nftAnswer, ipsetAnswer) = (nil, nil)
    let milliseconds: UInt64?
    do throws(FirewallError.Reason) {
      switch set {
      case .nft(let set):
        let answer = try inspect(set)
        nftAnswer = answer
        milliseconds = answer.kind.hasTimeouts ? answer.kind.defaultTimeout : nil
      case .ipset(let set):
        let kind = try inspect(set)
        ipsetAnswer = kind
        milliseconds = kind.defaultTimeout.map { $0 * 1000 }
      }
    } catch { return .forever }
    guard let milliseconds else { return .forever }
    if milliseconds > 0 {
      time.duration = min(Int64(clamping: milliseconds), SetTime.longest * 1000) * 1000
    }
    return time
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
      throw FirewallError(error, set, settings, wasFound: true)
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
      return try boundary(at: range.first, of: set) != nil
    case .ipset(let set):
      guard try inspect(set).holds(address.family) else { throw .otherType }
      return try test(range, prefixLength: address.family.addressBits, in: set)
    }
  }
}

extension FirewallSettings {
  /// Asks the kernel whether it can end what is in the sets.
  mutating func readTimeouts(_ firewall: inout Firewall?) {
    inetHasTimeouts = findsTimeouts(.inet, &firewall)
    inet6HasTimeouts = findsTimeouts(.inet6, &firewall)
  }

  @inline(never)
  private func findsTimeouts(_ family: AddressFamily, _ firewall: inout Firewall?) -> Bool {
    guard set(for: family) != nil, firewall != nil else { return false }
    var timed = self
    timed.seconds = seconds ?? 1
    return firewall?.error(of: family, timed) == .some(nil)
  }

  func hasTimeouts(_ family: AddressFamily) -> Bool {
    family == .inet ? inetHasTimeouts : inet6HasTimeouts
  }
}

/// How long the elements of a set last.
struct SetTime {
  /// The longest time that a grant may last (seconds).
  static let longest: Int64 = 366 * 86_400
  /// In a set whose elements have no time.
  static let forever = SetTime(duration: nil, limit: nil)

  /// How long an element lasts by the settings (microseconds); nil for ever.
  var duration: Int64?
  /// The longest time that an element may get (microseconds); nil if it cannot have one.
  let limit: Int64?
}
