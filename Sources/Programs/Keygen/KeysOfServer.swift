import KnockBase
import KnockProtocol
import KnockServer

/// Why keygen cannot make the file of a user.
enum KeygenError: Error {
  case system(SystemError)
  /// The standard output.
  case output(SystemError)
  /// The file of another user cannot be read.
  case user(UserName, SystemError)
  case key(UserName, KeyError)
  case otherServer(UserName, than: UserName)
}

extension KeygenError: MessageConvertible {
  var message: Message {
    switch self {
    case .system(let error): error.message
    case .output(let error): "standard output: \(error)"
    case .user(let name, let error): "user \(name): \(error)"
    case .key(let name, let error): "user \(name): \(error)"
    case .otherServer(let name, let other):
      "user \(name) has the key of another server than \(other)"
    }
  }
}

extension Descriptor {
  /// The server of the keys in this directory of users; nil if none is of version 2. Throws `exists` if there is a file
  /// with a name.
  @inline(never)
  func serverID(besides name: Argument) throws(KeygenError) -> ServerID? {
    var found: ServerID?
    var holder = UserName.none
    // As many bytes as the largest file of a user may have, and more.
    guard var names = FileNames(), let text = Storage<UInt8>.mapped(65_536),
      let bytes = Storage<UInt8>.mapped(Key.maximumSize + 1)
    else { throw .system(.outOfMemory) }
    defer {
      Key.wipe(text)
      Key.wipe(bytes)
    }
    while let file = try nextFile(&names) {
      if file == name { throw .system(.exists) }
      guard let user = file.withBytes({ UserName.isSkipped($0) ? nil : UserName($0) }) else {
        continue
      }
      guard let id = try serverID(of: user, file, text, bytes) else { continue }
      if let found, !found.span.equals(id.span) { throw .otherServer(user, than: holder) }
      found = id
      holder = user
    }
    return found
  }

  private func nextFile(_ names: inout FileNames) throws(KeygenError) -> Argument? {
    do throws(SystemError) { return try names.next(in: self) } catch { throw .system(error) }
  }

  /// Checks the key of a user.
  private func serverID(
    of user: UserName, _ name: Argument, _ memory: borrowing Storage<UInt8>,
    _ bytes: borrowing Storage<UInt8>
  ) throws(KeygenError) -> ServerID? {
    let text: TextFile
    do throws(SystemError) {
      text = try TextFile(try openUser(name, of: owner), into: memory.alias())
    } catch { throw .user(user, error) }
    do throws(KeyError) {
      return try text.bytes.withElements(text.line(from: 0)) { line throws(KeyError) in
        try Key.serverID(line: line, in: bytes)
      }
    } catch { throw .key(user, error) }
  }
}
