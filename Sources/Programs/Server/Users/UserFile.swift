import KnockBase
import KnockProtocol
import KnockServer

/// What the file of a user says.
struct UserFile: ~Copyable {
  let path: UserFilePath
  let key: Key
  let policy: Policy

  func error(_ fault: UserFault) -> UserFileError {
    UserFileError(path: path, line: 1, fault: .user(fault))
  }

  /// Logs what makes the key unsafe.
  func logWarnings() {
    if key.isReadableByOthers {
      log.warning("warning: \(path): others may read it; chmod 640 prevents that")
    }
    if key.isShort {
      log.warning(
        "warning: \(path): the key is shorter than \(Key.shortSize) bytes and may be guessed")
    }
  }
}

/// The words that begin the lines of a user's file, except the first line.
enum UserKeyword: UInt8 {
  case commands, ttl, addresses, expires, nft, ipset, grantPrefix4, grantPrefix6

  var name: Literal {
    switch self {
    case .commands: "commands"
    case .ttl: "ttl"
    case .addresses: "addresses"
    case .expires: "expires"
    case .nft: "nft"
    case .ipset: "ipset"
    case .grantPrefix4: "grant-prefix4"
    case .grantPrefix6: "grant-prefix6"
    }
  }
}

/// The limits in the file of a user: the lines behind the key.
struct UserLimits {
  /// The settings of the server, with the sets and prefixes of the user.
  private var settings: ServerSettings
  /// Whether the server has --ttl.
  private let hasTTL: Bool
  private(set) var policy: Policy
  /// The line of each keyword; 0 if there is none.
  private var lines = InlineArray<8, Int>(repeating: 0)
  /// The longest prefix in `addresses` for each family, and its line.
  private var narrowest: (length: Int, line: Int) = (0, 0)
  private var narrowest6: (length: Int, line: Int) = (0, 0)

  init(_ settings: ServerSettings) {
    self.settings = settings
    hasTTL = settings.firewall.seconds != nil
    policy = Policy(
      inet: Policy.Place(set: 0, prefixLength: 32), inet6: Policy.Place(set: 0, prefixLength: 128),
      families: AddressFamilies { _ in false }, allowsObservedSource: settings.allowsObservedSource)
  }

  private subscript(keyword: UserKeyword) -> Int {
    get { lines[Int(keyword.rawValue)] }
    set { lines[Int(keyword.rawValue)] = newValue }
  }

  /// Reads the lines of a file. The first is the key.
  ///
  /// - Parameters:
  ///   - keyBytes: see `Key`.
  ///   - line: becomes the line that was read last.
  @inline(never)
  mutating func read(
    _ file: borrowing TextFile, keyBytes: borrowing Storage<UInt8>, line: inout Int
  ) throws(UserFileFault) -> Key {
    line = 1
    var range = file.line(from: 0)
    let key: Key
    do throws(KeyError) {
      key = try file.bytes.withElements(range) { text throws(KeyError) in
        try Key(line: text, in: keyBytes)
      }
    } catch { throw .key(error) }
    do throws(ConfigurationFailure.Line) {
      while range.upperBound < file.count {
        line += 1
        range = file.line(from: range.upperBound + 1)
        try visitLine(range, of: file) { word, value throws(ConfigurationFailure.Line) in
          try take(word, value, line: line)
        }
      }
    } catch { throw .line(error) }
    return key
  }

  @inline(never)
  private mutating func take(
    _ word: Argument, _ value: Argument, line: Int
  ) throws(ConfigurationFailure.Line) {
    let keyword: UserKeyword? = word.withBytes { word in
      Cases.first { word.equalsIgnoringCase($0.name) }
    }
    guard let keyword else { throw .unknownKeyword(word, meant: nil) }
    do throws(Misuse) {
      guard self[keyword] == 0 || keyword == .addresses else {
        throw .unsuitableOperand(keyword.name, "there are two such lines, which must be one")
      }
      try take(keyword, value, line: line)
    } catch { throw .misuse(error) }
    self[keyword] = line
  }

  @inline(never)
  private mutating func take(
    _ keyword: UserKeyword, _ value: Argument, line: Int
  ) throws(Misuse) {
    switch keyword {
    case .commands:
      guard value.withBytes({ policy.setCommands($0) }) else {
        throw .badOperand(keyword.name, value, accepted: "open, close, or both")
      }
    case .ttl:
      policy.duration = try value.duration(for: ServerOption.ttl.spec) * Microseconds.second
    case .addresses: try takeAddresses(value, line: line)
    case .expires:
      guard let moment = value.withBytes({ CalendarTime.microseconds($0) }) else {
        throw .badOperand(
          keyword.name, value,
          accepted:
            """
            a day such as 2027-01-31, or a minute such as 2027-01-31T18:00Z, in the years 2000 to \
            9999
            """)
      }
      policy.expires = moment
    case .nft, .ipset:
      if self[.nft] == 0, self[.ipset] == 0 { settings.firewall.removeSets() }
      try settings.apply(keyword == .nft ? .nft : .ipset, value)
    case .grantPrefix4: try settings.apply(.grantPrefix4, value)
    case .grantPrefix6: try settings.apply(.grantPrefix6, value)
    }
  }

  @inline(never)
  private mutating func takeAddresses(_ value: Argument, line: Int) throws(Misuse) {
    let name = UserKeyword.addresses.name
    var misuse: Misuse?
    value.withBytes { text in
      text.visitWords { word in
        if word.equals("source") {
          policy.isOnlyForSource = true
          return
        }
        guard let range = AddressRange(prefix: word) else {
          misuse = .badOperand(
            name, value,
            accepted:
              "prefixes such as 192.0.2.0/24 (not 192.0.2.1/24) and 2001:db8::/32, or source alone")
          return
        }
        if !policy.allow(range) {
          misuse = .unsuitableOperand(name, "a user can have at most 16 prefixes")
        }
        let length = range.prefixLength
        if range.family == .inet {
          if length >= narrowest.length { narrowest = (length, line) }
        } else if length >= narrowest6.length {
          narrowest6 = (length, line)
        }
      }
    }
    if policy.isOnlyForSource, narrowest.line + narrowest6.line > 0 {
      misuse = .unsuitableOperand(name, "source must stand alone, without prefixes")
    }
    if let misuse { throw misuse }
  }
}

extension UserLimits {
  /// Checks that the limits fit together and to the sets, and completes the policy.
  ///
  /// - Parameters:
  ///   - names: the sets of the user get numbers there.
  ///   - opensByCommand: whether the server has a command that opens.
  ///   - firewall: is connected if the user has a set and the server has none.
  ///   - line: becomes the line that is wrong.
  @inline(never)
  mutating func complete(
    _ names: borrowing SetNames, opensByCommand: Bool, _ firewall: inout Firewall?, line: inout Int
  ) throws(UserFileFault) {
    try takePlace(.inet, .grantPrefix4, narrowest, names, line: &line)
    try takePlace(.inet6, .grantPrefix6, narrowest6, names, line: &line)
    policy.families = AddressFamilies { settings.firewall.covers($0) }

    let endLine = max(self[.ttl], self[.expires])
    let needsEnd = endLine > 0 && settings.closeAfterSeconds == nil
    if needsEnd {
      line = endLine
      if opensByCommand { throw .noEnd }
      settings.firewall.seconds = settings.firewall.seconds ?? 1
    }
    let prefixLine = max(self[.grantPrefix4], self[.grantPrefix6])
    let setLine = max(max(self[.nft], self[.ipset]), prefixLine)
    if needsEnd || setLine > 0 {
      if setLine > 0 { line = setLine }
      try check(.inet, &firewall)
      try check(.inet6, &firewall)
    }
    if self[.nft] + self[.ipset] > 0 { settings.firewall.readTimeouts(&firewall) }
    policy.inet.isTimed = settings.isTimed(.inet, opensByCommand: opensByCommand)
    policy.inet6.isTimed = settings.isTimed(.inet6, opensByCommand: opensByCommand)
  }

  @inline(never)
  private mutating func takePlace(
    _ family: AddressFamily, _ keyword: UserKeyword, _ narrowest: (length: Int, line: Int),
    _ names: borrowing SetNames, line: inout Int
  ) throws(UserFileFault) {
    line = self[keyword]
    if line > 0 {
      do throws(Misuse) {
        try settings.validatePrefix(family)
      } catch { throw .line(.misuse(error)) }
    }
    line = max(self[.nft], self[.ipset])
    let set = settings.firewall.set(for: family)
    let number = set?.number(in: names)
    guard (set == nil) == (number == nil) else { throw .noRoomForSet }
    let length = settings.firewall.prefixLength(for: family)
    line = narrowest.line
    guard !settings.firewall.covers(family) || narrowest.length <= length else {
      throw .narrow(family)
    }
    let place = Policy.Place(set: number ?? 0, prefixLength: length)
    if family == .inet { policy.inet = place } else { policy.inet6 = place }
  }

  private func check(
    _ family: AddressFamily, _ firewall: inout Firewall?
  ) throws(UserFileFault) {
    let settings = settings.firewall
    guard let set = settings.set(for: family) else { return }
    var reason: FirewallError.Reason?
    do throws(SystemError) {
      if firewall == nil { firewall = try Firewall(settings) }
      reason = firewall?.error(of: family, settings) ?? nil
    } catch { reason = .system(error) }
    guard let reason else { return }
    let error = FirewallError(reason, set, settings, wasFound: false)
    throw reason == .noTimeouts && !hasTTL ? .untimedSet(error) : .set(error)
  }
}

extension AddressRange {
  /// A prefix such as `192.0.2.0/24`, or a single address. Nil for another text, and if the address has ones behind
  /// the prefix: that may be a mistake.
  @inline(never)
  init?(prefix text: Span<UInt8>) {
    let slash = text.firstIndex(of: UInt8(ascii: "/"))
    guard let address = Address(unmapped: text.extracting(first: slash ?? text.count)) else {
      return nil
    }
    var length = address.family.addressBits
    if let slash {
      let digits = text.extracting((slash + 1)...)
      guard let number = Numbers.digits(digits), number <= length else { return nil }
      length = number
    }
    self.init(address, prefixLength: length)
    guard AddressRange(address, prefixLength: address.family.addressBits).first == first else {
      return nil
    }
  }
}

/// Why the file of a user is not taken. Nothing in it quotes the file.
enum UserFileFault: Error {
  case system(SystemError)
  /// No user can have the name of this file.
  case name(Argument)
  /// The directory has more files than this.
  case tooManyFiles(Int)
  case key(KeyError)
  case line(ConfigurationFailure.Line)
  /// Prefixes of `addresses` are within the one that a knock opens.
  case narrow(AddressFamily)
  /// Nothing ends what the open command does.
  case noEnd
  case noRoomForSet
  case set(FirewallError)
  /// The set would do without --ttl, but `ttl` or `expires` needs a set with timeouts.
  case untimedSet(FirewallError)
  case user(UserFault)
}

/// The same, with the file.
struct UserFileError: Error {
  let path: UserFilePath
  /// Counts from 1. 0 for the whole file.
  let line: Int
  let fault: UserFileFault
}

extension UserFileError {
  @inline(never)
  func logError() { log.error("\(self)") }
}

extension UserFileError: MessageConvertible {
  var message: Message {
    // A key may be on any line of the file.
    let shown = log.showsArguments
    log.showsArguments = false
    defer { log.showsArguments = shown }
    if path.name.isEmpty, !path.directory.isPath, !path.directory.isFile {
      return "--keys: directory (not shown, it may be a key): \(fault)"
    }
    if line > 0 { return "\(path):\(line): \(fault)" }
    if case .system(.notPermitted) = fault, path.name.isEmpty {
      return """
        \(path): it must belong to root or to the server's user, and only its owner may write to \
        it, unless it is sticky or read-only
        """
    }
    return "\(path): \(fault)"
  }
}

/// `'/etc/pyknock/keys/alice'`.
struct UserFilePath: MessageConvertible {
  let directory: Argument
  /// Empty for the directory itself.
  let name: UserName

  @inline(never)
  var message: Message { "\(quoted: directory, name)" }
}

extension Message.Parts {
  fileprivate mutating func appendInterpolation(quoted directory: Argument, _ name: UserName) {
    directory.withBytes { directory in
      write {
        $0.append("'")
        $0.append(escaped: directory)
        if !name.isEmpty {
          $0.append("/")
          $0.append(name)
        }
        $0.append("'")
      }
    }
  }
}

extension UserFileFault: MessageConvertible {
  var message: Message {
    switch self {
    case .system(.notPermitted):
      "it must belong to root or to the server's user, and only its owner may write to it"
    case .system(.invalid): "it is no regular file"
    case .system(.otherDevice): "it is a link that leads out of the directory"
    case .system(.fileTooLarge): "it is larger than \(UsersDirectory.fileLimit) bytes"
    case .system(let error): "\(error)"
    case .name(let name): "\(quoted: name) is not \(UserName.rule)"
    case .tooManyFiles(let limit): "it has more than \(limit) files"
    case .key(let error): error.message
    case .line(.unknownKeyword):
      """
      it does not begin with commands, ttl, addresses, expires, nft, ipset, grant-prefix4 or \
      grant-prefix6 (not shown, it may be the key)
      """
    case .line(.misuse(let misuse)): misuse.message
    case .line(let error): error.message
    case .narrow(.inet): Self.narrow("grant-prefix4 32")
    case .narrow(.inet6): Self.narrow("grant-prefix6 128")
    case .noEnd:
      "ttl and expires need --close-after, since the open command has no end by itself"
    case .noRoomForSet: "there is no room for the names of so many sets"
    case .untimedSet(let error):
      "ttl and expires need --close-after, or timeouts: \(error)"
    case .set(let error): "\(error)"
    case .user(let error): error.message
    }
  }

  private static func narrow(_ remedy: Literal) -> Message {
    "it has a prefix within the one that a knock opens; \(remedy) opens single addresses"
  }
}
