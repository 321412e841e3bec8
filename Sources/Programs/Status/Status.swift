import KnockBase
import KnockProtocol
import KnockServer
import Netfilter

/// What others can see of the server: the lock of its state directory, its journal, and the sets of the kernel. Nothing
/// is locked or changed.
struct Status: ~Copyable {
  /// How long the kernel may take to list a set.
  private static let patience = 60 * Microseconds.second
  /// How often the journal is read, if records in it are damaged. The server may be writing them.
  private static let attempts = 3

  private let settings: ServerSettings
  private var presence = Presence.unknown
  /// None if the journal could not be read.
  private var grants: Grants
  private var knowsGrants = false
  private var hasSets: Bool
  private var firewall: Firewall?
  private var loaded: LoadedUsers
  private var knocks: LastKnocks
  /// Whether everything could be read.
  private var isComplete = true

  /// Whether the server runs.
  enum Presence {
    case unknown, stopped
    /// The number is 0 if it is not known.
    case runs(process: Int32)
  }

  /// Looks at everything except the sets. Logs what cannot be read.
  @inline(never)
  init(_ settings: ServerSettings) throws(StateFailure) {
    self.settings = settings
    hasSets = settings.firewall.sets != nil
    guard let loaded = LoadedUsers() else { throw .system(.outOfMemory) }
    let grants = try GrantState.inMemory(1)
    let knocks = try LastKnockState.memory()
    self.grants = grants
    self.knocks = knocks
    self.loaded = loaded
    logState()
    logFirewall()
    logUsers()
  }

  /// Looks into the state directory.
  @inline(never)
  private mutating func logState() {
    guard let path = settings.stateDirectory else {
      return log.warning("no --state: it is not known whether the server runs, and what is ours")
    }
    do throws(StateFailure) {
      let directory = try StateFailure.wrapping { () throws(SystemError) in
        try StateDirectory(reading: path)
      }
      let holder = try StateFailure.wrapping { () throws(SystemError) in try directory.holder }
      presence =
        switch holder {
        case .nobody: .stopped
        case .process(let process): .runs(process: process)
        }
      var found = Grants.Found()
      for _ in 0..<Self.attempts {
        found = Grants.Found()
        grants = try GrantState.grants(in: directory, found: &found)
        if found.damagedCount == 0 { break }
      }
      knowsGrants = true
      hasSets = hasSets || found.hasSets
      guard found.damagedCount > 0 else { return }
      log.warning(
        "warning: a part of the journal of grants is damaged, or of an older version: more may be open"
      )
    } catch {
      switch error {
      case .system(.accessDenied):
        log.error(
          """
          --state: \(quoted: path): \(SystemError.accessDenied) (run this as root, or as the \
          server's user; only its owner may write to it)
          """)
      default: log.error("--state: \(quoted: path): \(error)")
      }
    }
    isComplete = false
  }

  /// Connects to the kernel, if there are sets.
  @inline(never)
  private mutating func logFirewall() {
    guard hasSets else { return }
    do throws(SystemError) {
      firewall = try Firewall(settings.firewall)
      firewall?.socket.timeout = Self.patience
    } catch {
      log.error("\(settings.firewall.optionName): \(NetfilterSocket.Failure.system(error))")
      isComplete = false
    }
  }

  /// Reads the users. The user of `key-file` has no name. Its key is not read, so its version
  /// is 0.
  @inline(never)
  private mutating func logUsers() {
    if settings.keyFile != nil {
      _ = loaded.users.insert(
        .none, key: .none, version: 0, settings.policy(grants.names, opensByCommand: true))
    }
    if let path = settings.keysDirectory { logUsers(in: path) }
    guard loaded.users.count > 0, let state = settings.stateDirectory, knowsGrants else { return }
    do throws(StateFailure) {
      let directory = try StateFailure.wrapping { () throws(SystemError) in
        try StateDirectory(reading: state)
      }
      if try LastKnockState.read(&knocks, loaded.users, in: directory) { return }
      log.warning("warning: 'users' is damaged: some last knocks are missing")
    } catch { log.error("--state: \(quoted: state): \(error)") }
    isComplete = false
  }

  private mutating func logUsers(in path: Argument) {
    do throws(LoadedUsers.Failure) {
      try loaded.add(
        directory: path, settings, opensByCommand: settings.openCommand != nil, grants.names,
        &firewall)
    } catch {
      log.error("\(error)")
      isComplete = false
    }
  }

  var exitCode: ExitCode {
    guard isComplete else { return .failure }
    return switch presence {
    case .unknown: .serverUnknown
    case .stopped: .serverStopped
    case .runs: .success
    }
  }

  @inline(never)
  private func printPresence(asJSON isJSON: Bool, to output: inout TextOutput) {
    var since: Int64?
    var number: Int32?
    var isRunning: Bool? = false
    switch presence {
    case .unknown: isRunning = nil
    case .stopped: break
    case .runs(let process):
      isRunning = true
      if process > 0 {
        number = process
        since = SystemClock.start(of: process)
      }
    }
    if isJSON {
      output.append("{\n  \"running\": ")
      output.append(json: isRunning)
      output.append(",\n  \"process\": ")
      if let number { output.append(number) } else { output.append("null") }
      output.append(",\n  \"since\": ")
      output.append(jsonTime: since)
      return output.append(",\n")
    }
    output.append("server: ")
    guard let isRunning else { return output.append("not known whether it runs\n\n") }
    output.append(isRunning ? "runs" : "does not run")
    if let since {
      output.append(" since ")
      output.append(utc: since)
    }
    if let number {
      output.append(", process ")
      output.append(number)
    }
    output.append("\n\n")
  }

  /// Prints what is open. Logs what cannot be read.
  @inline(never)
  mutating func print(
    withUsers: Bool, asJSON isJSON: Bool, to output: inout TextOutput
  ) throws(StateFailure) {
    // By the number of a set: 1 for IPv4, plus 2 for IPv6.
    let families = try StateFile.memory(SetNames.size, of: UInt8.self)
    let open = try StateFile.memory(grants.count + 1, of: Grant.self)
    var count = 0
    while let grant = grants.removeFirst() {
      open[count] = grant
      families[Int(grant.set)] |= grant.address.family == .inet ? 1 : 2
      count += 1
    }
    var listing = try SetListing(grantCount: count)
    logPlace(of: settings.firewall.set(for: .inet), in: families)
    logPlace(of: settings.firewall.set(for: .inet6), in: families)
    let users = try UserList(
      loaded.users.forFork(), usual: settings.policy(grants.names, opensByCommand: true))
    users.visitPolicies { policy in
      families[Int(policy.inet.set)] |= 1
      families[Int(policy.inet6.set)] |= 2
    }
    printPresence(asJSON: isJSON, to: &output)
    if withUsers, isJSON { users.printJSON(grants.names, knocks, to: &output) }
    if withUsers, !isJSON { users.printTable(grants.names, knocks, to: &output) }
    var list = OpenList(asJSON: isJSON, knowsGrants: knowsGrants)
    list.begin(&output)
    for number in 1..<families.count where families[number] > 0 {
      let number = UInt16(number)
      if families[Int(number)] & 1 != 0 {
        printSet(number, .inet, open, count, in: &listing, with: &list, to: &output)
      }
      if families[Int(number)] & 2 != 0 {
        printSet(number, .inet6, open, count, in: &listing, with: &list, to: &output)
      }
    }
    for index in 0..<count where open[index].set == 0 {
      list.append(OpenItem(open[index], nil, isHeld: nil), grants.names, to: &output)
    }
    list.end(&output)
  }

  /// Adds a set to those that are listed.
  private mutating func logPlace(of set: FirewallSet?, in families: borrowing Storage<UInt8>) {
    guard let set else { return }
    if let number = GrantState.number(of: set, in: grants.names) {
      families[Int(number)] |= set.addresses == .inet ? 1 : 2
    } else {
      log.error("\(set): not listed: the journal names too many sets")
      isComplete = false
    }
  }

  /// Prints the grants in a set, and its other elements.
  @inline(never)
  private mutating func printSet(
    _ number: UInt16, _ family: AddressFamily, _ open: borrowing Storage<Grant>, _ count: Int,
    in listing: inout SetListing, with list: inout OpenList, to output: inout TextOutput
  ) {
    let isWhole = logElements(of: number, family, in: &listing)
    for index in 0..<count where open[index].set == number && open[index].address.family == family {
      let range = open[index].range
      listing.append(
        .grant(index: Int32(index)),
        SetElement(first: range.first, last: range.last, milliseconds: 0))
    }
    listing.sort()
    var cover = Cover()
    var before: SetElement?
    for index in 0..<listing.count {
      let item = listing[index]
      switch item.kind {
      case .grant(let grant):
        let grant = open[Int(grant)]
        let element = listing.element(of: grant.address, from: index, before: before)
        let isHeld: Bool? = element != nil ? true : isWhole ? false : nil
        list.append(OpenItem(grant, element, isHeld: isHeld), grants.names, to: &output)
      case .element:
        if !cover.covers(item.element, of: listing, open) {
          list.append(OpenItem(item.element, of: family, in: number), grants.names, to: &output)
        }
        before = item.element
      case .end: break
      }
    }
  }

  /// Reads the elements of a set. Returns false, and logs why, if some may be missing.
  @inline(never)
  private mutating func logElements(
    of number: UInt16, _ family: AddressFamily, in listing: inout SetListing
  ) -> Bool {
    listing.removeAll()
    guard firewall != nil,
      let set = grants.names.withName(number, { FirewallSet(name: $0, addresses: family) })
    else { return false }
    do throws(FirewallError.Reason) {
      switch try listing.read(set, through: &firewall) {
      case .whole: return true
      case .changing: log.error("\(set): it changes while it is read, so elements may be missing")
      case .tooLong: log.error("\(set): it has more than \(SetListing.limit) elements")
      }
    } catch {
      log.error(
        "\(FirewallError(error, set, settings.firewall, wasFound: true))")
    }
    isComplete = false
    return false
  }
}
