import CSystem
import KnockBase
import KnockProtocol
import Netfilter

/// Changes the sets of the kernel that the user named.
///
/// What the kernel has is looked at before each change, since rules may be loaded anew at any time.
struct Firewall: ~Copyable {
  let settings: FirewallSettings
  var socket: NetfilterSocket
  var intervals: IntervalChange

  /// Why a set cannot be used, or was not changed.
  enum Failure: Error, Equatable {
    case noTable, ownedTable, noSet
    case otherType, map, constant, noTimeouts, noIntervals, defaultTimeout, mask
    case full
    /// It cannot be closed, since somebody else has opened it for ever.
    case permanent
    case netfilter(NetfilterSocket.Failure)

    static func system(_ number: Int32) -> Failure {
      .netfilter(.system(SystemError(number: number)))
    }
  }

  private init(_ settings: FirewallSettings) throws(SystemError) {
    guard let boundaries = Storage<Boundary>.mapped(IntervalChange.capacity) else {
      throw SystemError(number: ENOMEM)
    }
    let socket = try NetfilterSocket()
    self.settings = settings
    self.socket = socket
    intervals = IntervalChange(boundaries)
  }

  /// Connects to the kernel and checks the sets. Nil, with a report, where one is not as it must be.
  ///
  /// - Parameter mayName: see `FirewallSettings.describe`.
  static func open(
    _ settings: FirewallSettings, report: Report, mayName: Bool
  ) -> Firewall? {
    do throws(SystemError) {
      var firewall = try Firewall(settings)
      let hasInet = firewall.check(.inet, report: report, mayName: mayName)
      let hasInet6 = firewall.check(.inet6, report: report, mayName: mayName)
      guard hasInet, hasInet6 else { return nil }
      return consume firewall
    } catch {
      var line = Line(.error)
      line.append(settings.optionName)
      line.append(": ")
      line.append(NetfilterSocket.Failure.system(error))
      report.write(line)
      return nil
    }
  }

  private mutating func check(
    _ family: AddressFamily, report: Report, mayName: Bool
  ) -> Bool {
    guard let name = settings.name(for: family) else { return true }
    do throws(Failure) {
      switch settings.sets {
      case .nft(let table):
        let set = NftSet(table: table, name: name, addresses: family)
        _ = try inspect(set)
        guard try !isOwned(set.table) else { throw .ownedTable }
      case .ipset: try check(IPSet(name: name, addresses: family))
      case nil: break
      }
      return true
    } catch {
      var line = Line(.error)
      line.append(settings.optionName)
      line.append(": ")
      settings.describe(error, family, to: &line, mayName: mayName)
      report.write(line)
      return false
    }
  }

  /// Opens or closes access for the address of a knock. It is done when this returns.
  ///
  /// - Returns: whether something had to be changed, as far as is known.
  mutating func apply(_ knock: Knock) throws(Failure) -> Bool {
    let family = knock.address.family
    guard let name = settings.name(for: family) else { return false }
    switch settings.sets {
    case .nft(let table):
      return try change(NftSet(table: table, name: name, addresses: family), for: knock)
    case .ipset:
      try change(IPSet(name: name, addresses: family), for: knock)
      return true
    case nil: return false
    }
  }
}
