import KnockBase
import KnockProtocol
import KnockServer

/// Why keygen cannot make the file of a user.
enum KeygenError: Error {
  case system(SystemError)
  /// The standard output.
  case output(SystemError)
  /// The file of another user cannot be read.
  case user(SystemError)
  case key(KeyError)
  /// The key of another user is for another server than those before.
  case otherServer
}

/// The users whose keys were looked at.
struct KeyHolders {
  var last = UserName.none
  /// The last one before it with a key of version 2.
  var other = UserName.none

  func message(of error: KeygenError) -> Message {
    switch error {
    case .system(let error): error.message
    case .output(let error): "standard output: \(error)"
    case .user(let error): "user \(last): \(error)"
    case .key(let error): "user \(last): \(error)"
    case .otherServer: "user \(last) has the key of another server than \(other)"
    }
  }
}

extension Descriptor {
  /// The room for the largest file of a user, in bytes.
  private static var fileSize: Int { 65_536 }
  /// The room that `findServer` needs, in bytes.
  static var serverMemory: Int { fileSize + Key.maximumSize + 1 }

  /// The server of the keys in this directory of users; nil if none is of version 2. Throws `exists` if there is a file
  /// with a name. The keys are then in the memory.
  @inline(never)
  func findServer(
    besides name: Argument, in memory: borrowing Storage<UInt8>, _ holders: inout KeyHolders
  ) throws(KeygenError) -> ServerID? {
    var (found, id) = (ServerID(repeating: 0), ServerID(repeating: 0))
    let text = memory.part(0..<Self.fileSize)
    let bytes = memory.part(from: Self.fileSize)
    guard var names = FileNames() else { throw .system(.outOfMemory) }
    while let file = try nextFile(&names) {
      if file == name { throw .system(.exists) }
      guard let user = file.withBytes({ UserName.isSkipped($0) ? nil : UserName($0) }) else {
        continue
      }
      holders.last = user
      guard try readServer(inFile: file, text, bytes, into: &id) else { continue }
      guard holders.other.isEmpty || found.span.equals(id.span) else { throw .otherServer }
      found = id
      holders.other = user
    }
    return holders.other.isEmpty ? nil : found
  }

  private func nextFile(_ names: inout FileNames) throws(KeygenError) -> Argument? {
    do throws(SystemError) { return try names.next(in: self) } catch { throw .system(error) }
  }

  /// Checks the key of a user. Returns false if it is of version 1, which has no server.
  @inline(never)
  private func readServer(
    inFile name: Argument, _ memory: borrowing Storage<UInt8>,
    _ bytes: borrowing Storage<UInt8>, into server: inout ServerID
  ) throws(KeygenError) -> Bool {
    let text: TextFile
    do throws(SystemError) {
      text = try TextFile(try openUser(name, of: owner), into: memory.alias())
    } catch { throw .user(error) }
    do throws(KeyError) {
      return try text.bytes.withElements(text.line(from: 0)) { line throws(KeyError) in
        try Key.readServer(ofLine: line, in: bytes, into: &server)
      }
    } catch { throw .key(error) }
  }
}
