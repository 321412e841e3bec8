import KnockBase
import KnockProtocol
import KnockServer

/// The users and their keys when the server starts.
struct LoadedUsers: ~Copyable {
  var users: Users
  var keys: KeyRing
  /// Nil if the server gives no answers.
  var answerKeys: AnswerKeys?
  /// Nil if there is none.
  var directory: UsersDirectory?

  /// Nobody. Nil if out of memory.
  ///
  /// - Parameter answers: whether the server gives answers.
  init?(answers: Bool = false) {
    let answerKeys = answers ? AnswerKeys() : nil
    guard answers == (answerKeys != nil),
      let users = Storage<User.Record>.mapped(Users.slotCount),
      let names = PositionIndex.mapped(forRecords: Users.slotCount),
      let fingerprints = PositionIndex.mapped(forRecords: Users.slotCount),
      let keys = KeyRing()
    else { return nil }
    self.users = Users(users, names: names, keys: fingerprints)
    self.keys = keys
    self.answerKeys = answerKeys
  }

  /// Adds a user whose name nobody has.
  @inline(never)
  mutating func insert(
    _ name: UserName, _ key: borrowing KeyedMAC, _ policy: Policy
  ) throws(UserFault) {
    let slot = try users.insert(name, key, policy)
    _ = unsafe keys.put(
      UnsafeRawBufferPointer(key.bytes), version: key.version, slot: slot)
    answerKeys?.put(key, slot: slot)
  }
}

extension LoadedUsers {
  /// Logs how many users there are, and if so many keys are too much for this machine.
  @inline(never)
  func logLoaded(_ settings: ServerSettings) {
    if settings.keysDirectory != nil {
      log.info("users: \(users.namedCount)\(users.unnamedRemark)")
    }
    keys.logRate()
    if !settings.acceptsVersion1, users.version1Count > 0 {
      log.warning(
        "warning: --no-version1: keys of version 1, which open nothing: \(users.version1Count)")
    }
  }

  /// So many mistakes are shown at once.
  private static let shownErrors = 10

  /// Why not all users of a directory were added.
  enum Failure: Error {
    case system(SystemError)
    /// The directory cannot be read.
    case unreadable(UserFileError)
    /// Files of users are wrong. Some of them were shown.
    case faulty(Argument, Int, shown: Int)
  }

  /// Adds the users of a directory.
  ///
  /// - Parameter opensByCommand: whether there is a command that opens.
  @inline(never)
  mutating func add(
    directory path: Argument, _ settings: ServerSettings, opensByCommand: Bool,
    _ names: borrowing SetNames, _ firewall: inout Firewall?
  ) throws(Failure) {
    var directory: UsersDirectory
    do throws(SystemError) {
      directory = try UsersDirectory(path, settings, opensByCommand: opensByCommand)
    } catch { throw .system(error) }
    do throws(UserFileError) { try directory.begin() } catch { throw .unreadable(error) }
    var errors = 0
    while true {
      do throws(UserFileError) {
        guard let name = try directory.next() else { break }
        try add(name, from: &directory, names, &firewall)
      } catch {
        errors += 1
        if errors <= Self.shownErrors { error.logError() }
      }
    }
    directory.end()
    if errors == 0, users.count == 0 { directory.logNoUsers() }
    self.directory = .some(directory)
    guard errors == 0 else {
      throw .faulty(path, errors, shown: min(errors, Self.shownErrors))
    }
  }

  @inline(never)
  private mutating func add(
    _ name: UserName, from directory: inout UsersDirectory, _ names: borrowing SetNames,
    _ firewall: inout Firewall?
  ) throws(UserFileError) {
    // A name comes twice if somebody has just replaced the file.
    guard users.slot(named: name) == nil else { return }
    let user = try directory.read(name, names, &firewall)
    do throws(UserFault) {
      try insert(name, user.key.expanded, user.policy)
    } catch { throw user.error(error) }
    user.logWarnings()
  }
}

extension LoadedUsers.Failure: MessageConvertible {
  var message: Message {
    switch self {
    case .system(let error): "--keys: \(error)"
    case .unreadable(let error): error.message
    case .faulty(let path, let count, let shown):
      "--keys: \(quoted: path): errors: \(count)\(shown: count, shown)"
    }
  }
}

extension Message.Parts {
  fileprivate mutating func appendInterpolation(shown count: Int, _ shown: Int) {
    if shown < count { _ = ", of which \(shown) are shown" as Message }
  }
}

extension Users {
  /// Whether there is also the user of `-k` or PSK, for messages.
  var unnamedRemark: Literal { namedCount < count ? ", and one without a name" : "" }

  /// Throws `sameKey` if somebody has a key, `otherServer` if it is for another server than the others, and `tooManyKeys`
  /// if it has no room.
  ///
  /// - Parameter slot: of the user whose key it replaces.
  @inline(never)
  func check(
    _ key: borrowing KeyedMAC, replacing slot: Int? = nil
  ) throws(UserFault) {
    let fingerprint = key.fingerprint
    if let slot = self.slot(withKey: fingerprint), let user = self[slot] {
      throw .sameKey(as: user.name)
    }
    if let user = userOfOtherServer(than: key, replacing: slot) {
      throw .otherServer(than: user.name)
    }
    try checkRoom(for: key, replacing: slot)
  }

  /// A user whose key is for another server than this one; nil if there is none.
  func userOfOtherServer(than key: borrowing KeyedMAC, replacing slot: Int?) -> User? {
    guard key.version == 2, let user = firstOfVersion2(except: slot),
      user.key.high != key.fingerprint.high
    else { return nil }
    return user
  }

  /// Throws `tooManyKeys` if there is no room for a key.
  func checkRoom(for key: borrowing KeyedMAC, replacing slot: Int?) throws(UserFault) {
    let old = slot.flatMap { self[$0]?.version }
    guard key.version == 2 || old == 1 || version1Count < KeyRing.limit else {
      throw .tooManyKeys
    }
  }

  /// Adds a user whose name nobody has. Returns the slot.
  mutating func insert(
    _ name: UserName, _ key: borrowing KeyedMAC, _ policy: Policy
  ) throws(UserFault) -> Int {
    try check(key)
    guard let slot = insert(name, key: key.fingerprint, version: key.version, policy) else {
      throw .tooManyUsers
    }
    return slot
  }
}

/// Why a user cannot be added.
enum UserFault: Error {
  case sameKey(as: UserName)
  case otherServer(than: UserName)
  case tooManyKeys
  case tooManyUsers
}

extension UserFault: MessageConvertible {
  var message: Message {
    switch self {
    case .sameKey(let name) where name.isEmpty: "it has the same key as -k or PSK"
    case .sameKey(let name): "it has the same key as \(name)"
    case .otherServer(let name) where name.isEmpty:
      "it is for another server than the key of -k or PSK"
    case .otherServer(let name): "it is for another server than the key of \(name)"
    case .tooManyKeys: "there are more than \(KeyRing.limit) keys of version 1"
    case .tooManyUsers: "there are more than \(Users.limit) users"
    }
  }
}

extension ServerSettings {
  /// What a user may do by the options of the server.
  ///
  /// - Parameters:
  ///   - names: the sets get numbers there.
  ///   - opensByCommand: whether there is a command that opens.
  @inline(never)
  func policy(_ names: borrowing SetNames, opensByCommand: Bool) -> Policy {
    @inline(never)
    func place(_ family: AddressFamily) -> Policy.Place {
      Policy.Place(
        set: firewall.set(for: family)?.number(in: names) ?? 0,
        prefixLength: firewall.prefixLength(for: family),
        isTimed: isTimed(family, opensByCommand: opensByCommand))
    }
    return Policy(
      inet: place(.inet), inet6: place(.inet6),
      families: AddressFamilies { firewall.covers($0) },
      allowsObservedSource: allowsObservedSource)
  }

  /// Whether what is opened for an address can end by itself.
  func isTimed(_ family: AddressFamily, opensByCommand: Bool) -> Bool {
    closeAfterSeconds != nil || !opensByCommand && firewall.hasTimeouts(family)
  }
}
