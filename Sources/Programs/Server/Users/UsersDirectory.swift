import KnockBase
import KnockProtocol
import KnockServer

/// The directory that `--keys` names. Each file in it is a user.
struct UsersDirectory: ~Copyable {
  /// The size of the longest file, in bytes.
  static let fileLimit = 16_384
  /// How many names are looked at. Editors leave files behind, so there may be more than users.
  private static let nameLimit = 2 * Users.limit

  let path: Argument
  /// Whether the server has a command that opens.
  var opensByCommand: Bool
  /// Files may belong to this user, too.
  private let owner: UInt32
  private var descriptor = Descriptor.none
  private var names: FileNames
  private var nameCount = 0
  /// Those of the server: one value, kept out of this one because it is large.
  private let limits: Storage<UserLimits>
  /// A file.
  private let text: Storage<UInt8>
  /// A key.
  private let key: Storage<UInt8>

  @inline(never)
  init(
    _ path: Argument, _ settings: ServerSettings, opensByCommand: Bool
  ) throws(SystemError) {
    guard let limits = Storage<UserLimits>.mapped(1), let names = FileNames(),
      let text = Storage<UInt8>.mapped(Self.fileLimit + 1),
      let key = Storage<UInt8>.mapped(Key.maximumSize + 1)
    else { throw .outOfMemory }
    self.path = path
    limits[0] = UserLimits(settings)
    self.limits = limits
    self.opensByCommand = opensByCommand
    owner = settings.sandbox.user?.number ?? 0
    self.names = names
    self.text = text
    self.key = key
  }

  /// Begins a list of its files.
  @inline(never)
  mutating func begin() throws(UserFileError) {
    nameCount = .max
    names.removeAll()
    do throws(SystemError) {
      descriptor = try Descriptor(users: path, of: owner)
    } catch { throw self.error(.none, .system(error)) }
    nameCount = 0
  }

  func logNoUsers() {
    log.warning("warning: \(quoted: path) has no users, so nobody can knock")
  }

  /// Ends its use for now.
  mutating func end() {
    descriptor = .none
    names.removeAll()
    wipe()
  }

  /// Whether the last list does not have all names, after an error.
  var isListCut: Bool { nameCount == .max }

  private func wipe() {
    Key.wipe(text)
    Key.wipe(key)
  }

  /// The next user; nil after the last. An error about one name does not end the list.
  @inline(never)
  mutating func next() throws(UserFileError) -> UserName? {
    while !isListCut {
      let found: Argument?
      do throws(SystemError) {
        found = try names.next(in: descriptor)
      } catch {
        nameCount = .max
        throw self.error(.none, .system(error))
      }
      guard let found else { return nil }
      nameCount += 1
      guard nameCount <= Self.nameLimit else {
        nameCount = .max
        throw error(.none, .tooManyFiles(Self.nameLimit))
      }
      guard !found.withBytes({ UserName.isSkipped($0) }) else { continue }
      guard let name = found.withBytes({ UserName($0) }) else { throw error(.none, .name(found)) }
      return name
    }
    return nil
  }

  private func error(
    _ name: UserName, line: Int = 0, _ fault: UserFileFault
  ) -> UserFileError {
    UserFileError(path: UserFilePath(directory: path, name: name), line: line, fault: fault)
  }

  /// Reads the file of a user, and checks it. The error `.system(.notFound)` means that there is none.
  ///
  /// - Parameters:
  ///   - names: the sets of the user get numbers there.
  ///   - firewall: checks these sets. If the server has no sets, it is connected now.
  mutating func read(
    _ name: UserName, _ names: borrowing SetNames, _ firewall: inout Firewall?
  ) throws(UserFileError) -> UserFile {
    var line = 0
    do throws(UserFileFault) {
      return try read(name, names, &firewall, line: &line)
    } catch { throw self.error(name, line: line, error) }
  }

  @inline(never)
  private mutating func read(
    _ name: UserName, _ names: borrowing SetNames, _ firewall: inout Firewall?, line: inout Int
  ) throws(UserFileFault) -> UserFile {
    let text: TextFile
    let isReadableByOthers: Bool
    do throws(SystemError) {
      var string = TextBuffer<40>()
      string.append(name)
      string.append(byte: 0)
      let file = try string.withArgument { name throws(SystemError) in
        try descriptor.openUser(name, of: owner)
      }
      isReadableByOthers = try FileMode(of: file.number).permissions & 0o004 != 0
      text = try TextFile(file, into: self.text.alias())
    } catch { throw .system(error) }
    var limits = self.limits[0]
    var key = try limits.read(text, keyBytes: self.key, line: &line)
    key.isReadableByOthers = isReadableByOthers
    try limits.complete(names, opensByCommand: opensByCommand, &firewall, line: &line)
    return UserFile(
      path: UserFilePath(directory: path, name: name), key: key, policy: limits.policy)
  }
}
