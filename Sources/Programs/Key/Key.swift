import CSodium
import KnockBase
import KnockProtocol

/// A key that was read, in its expanded form only.
struct Key: ~Copyable {
  /// The greatest length of a key, in bytes of Latin-1.
  static let maximumSize = 4096
  /// A shorter key gets a warning. HMAC needs a key that nobody can guess.
  static let shortSize = 16
  static let readTimeout = 60 * Microseconds.second

  let expanded: KeyedMAC
  let isShort: Bool
  /// Whether all users of the machine may read its file.
  var isReadableByOthers: Bool
  /// Whether it is an operand that names a file, or has a slash in it.
  private var looksLikePath: Bool

  /// Reads the key and expands it. Wipes every copy of the text in our memory, the one in argv too.
  ///
  /// - Parameter patience: how long a pipe or terminal may take to give it (microseconds).
  init(
    from source: KeySource, within patience: Int64 = readTimeout
  ) throws(KeyError) {
    self = try Self.read(from: source, within: patience)
  }

  private static var prompt: Literal { "key (not shown): " }

  private static func read(
    from source: KeySource, within patience: Int64
  ) throws(KeyError) -> Key {
    // In UTF-8 each character up to U+00FF is at most two bytes. The end of the line is two more. One more byte tells
    // whether the file ends there.
    guard let text = Storage<UInt8>.mapped(2 * Self.maximumSize + 3),
      let bytes = Storage<UInt8>.mapped(Self.maximumSize + 1)
    else { throw .outOfMemory }
    defer {
      wipe(text)
      wipe(bytes)
    }

    var isReadableByOthers = false
    var looksLikePath = false
    let count: Int
    switch source {
    case .operand(let argument):
      looksLikePath = argument.isPath || argument.isFile
      count = take(argument, into: text)
    case .setting(let value):
      looksLikePath = value.withBytes { $0.hasPrefix("/") || $0.hasPrefix("~/") }
      count = take(value, into: text)
    case .file(let path) where path == "-":
      count = try readLine(from: 0, prompt: prompt, into: text, within: patience)
      try check(text, count)
    case .file(let path), .configuredFile(let path), .hiddenFile(let path):
      let file = try KeyFile(path)
      if file.isRegular {
        count = try readFile(file.descriptor, into: text)
      } else {
        count = try readLine(
          from: file.descriptor.number, prompt: prompt, into: text, within: patience)
        try check(text, count)
      }
      isReadableByOthers = file.isReadableByOthers
    }
    guard count < text.count else { throw .tooLong }
    var key = try text.withElements(0..<count) { text throws(KeyError) in
      try Key(expanding: text, in: bytes)
    }
    key.isReadableByOthers = isReadableByOthers
    key.looksLikePath = looksLikePath
    return key
  }

  /// Reads the key in a line of a file, without its line feed. The key is then in `bytes`, which the caller wipes.
  init(line: Span<UInt8>, in bytes: borrowing Storage<UInt8>) throws(KeyError) {
    let text = line.extracting(first: Self.length(of: line))
    try Self.check(text)
    try self.init(expanding: text, in: bytes)
  }

  /// - Parameter bytes: `maximumSize + 1`.
  @inline(never)
  init(expanding text: Span<UInt8>, in bytes: borrowing Storage<UInt8>) throws(KeyError) {
    isReadableByOthers = false
    looksLikePath = false
    guard !Version2.KeyBytes.isMeant(by: text) else {
      // The compiler makes copies of small values.
      defer { sodium_stackzero(4096) }
      expanded = try Self.version2(text)
      isShort = false
      return
    }
    var key = StorageText(bytes.alias())
    guard KeyText.encode(utf8: text, into: &key) else { throw .notLatin1 }
    guard key.count > 0 else { throw .empty }
    guard key.count <= Self.maximumSize else { throw .tooLong }
    guard let expanded = bytes.withElements(0..<key.count, { KeyedMAC(expanding: $0) }) else {
      throw .outOfMemory
    }
    self.expanded = expanded
    isShort = key.count < Self.shortSize
  }

  /// Reads the server id of a key in a line of a file. Returns false for version 1.
  static func readServer(
    ofLine line: Span<UInt8>, in memory: borrowing Storage<UInt8>, into server: inout ServerID
  ) throws(KeyError) -> Bool {
    guard try Key(line: line, in: memory).expanded.version == 2 else { return false }
    var key = Version2.KeyBytes()
    defer { unsafe sodium_memzero(&key.bytes, Version2.KeyBytes.size) }
    do throws(Version2.KeyTextFault) {
      try key.read(line.extracting(first: length(of: line)))
    } catch { throw .version2(error) }
    for index in Version2.KeyBytes.serverID { server[index] = key.bytes[index] }
    return true
  }

  @inline(never)
  static func version2(_ text: Span<UInt8>) throws(KeyError) -> KeyedMAC {
    var bytes = Version2.KeyBytes()
    defer { unsafe sodium_memzero(&bytes.bytes, Version2.KeyBytes.size) }
    let expanded: KeyedMAC?
    do throws(Version2.KeyTextFault) {
      try bytes.read(text)
      expanded = try KeyedMAC(bytes)
    } catch { throw .version2(error) }
    guard let expanded else { throw .outOfMemory }
    return expanded
  }

  /// Logs what makes the key unsafe.
  func logWarnings(about source: KeySource) {
    var (name, advice): (Literal, Literal) = ("PSK", "-k FILE")
    switch source {
    case .operand:
      log.warning("warning: a key in the command line shows in ps and the history; use -k FILE")
    case .file(let path), .configuredFile(let path), .hiddenFile(let path):
      if isReadableByOthers {
        let isHidden = if case .hiddenFile = source { true } else { false }
        log.warning(
          """
          warning: \(isHidden ? "KeyFile" as Message : "key file \(quoted: path)"): \
          others may read it; chmod 600 prevents that
          """)
      }
    case .setting: (name, advice) = ("Key", "KeyFile FILE")
    }
    if looksLikePath {
      log.warning(
        """
        warning: \(name) looks like the name of a file, but is itself the key; \
        to read FILE, write \(advice)
        """)
    }
    if isShort {
      log.warning(
        """
        warning: the key is shorter than \(Self.shortSize) bytes and may be guessed; \
        pyknock keygen makes a good one
        """)
    }
  }

  /// Wipes memory. If it has pages of its own, as at the start, they go back to the system. After HUP it is in a
  /// room of the `Reloader`, which goes back as a whole.
  static func wipe(_ bytes: borrowing Storage<UInt8>) {
    unsafe sodium_memzero(bytes.baseAddress, bytes.count)
    bytes.releasePages()
  }

  /// Wipes a text that is not needed.
  static func wipe(_ text: Argument) { unsafe sodium_memzero(text.pointer, text.count) }

  /// Copies the key out of argv and overwrites it there, so that ps(1) no longer shows it.
  private static func take(_ argument: Argument, into text: borrowing Storage<UInt8>) -> Int {
    let count = min(argument.count, text.count)
    argument.withBytes { bytes in
      for index in 0..<count { text[index] = bytes[index] }
    }
    wipe(argument)
    return count
  }

  /// Reads a line, and nothing that follows it: that is for the user's command. On a terminal, asks for the line
  /// and hides it.
  ///
  /// - Returns: the length of the line without its end (LF or CR LF); `text.count` if the line is longer.
  static func readLine(
    from descriptor: Int32, prompt: Literal, into text: borrowing Storage<UInt8>,
    within patience: Int64
  ) throws(KeyError) -> Int {
    Terminal.hideInput(descriptor, prompt: prompt)
    defer { Terminal.showInput() }
    let deadline = SystemClock.monotonic() + patience
    var count = 0
    do throws(SystemError) {
      while count < text.count {
        guard try waitUntilReadable(descriptor, until: deadline) else {
          throw .timedOut
        }
        guard let length = try Descriptor.read(descriptor, into: text, in: count..<count + 1) else {
          continue
        }
        if length == 0 || text[count] == UInt8(ascii: "\n") { break }
        count += 1
      }
    } catch { throw error == .timedOut ? .timedOut(after: patience) : .cannotRead(error) }
    if count < text.count { count = text.withElements(0..<count) { length(of: $0) } }
    return count
  }

  /// The length of a line without a carriage return.
  private static func length(of line: Span<UInt8>) -> Int {
    line.count > 0 && line[line.count - 1] == UInt8(ascii: "\r") ? line.count - 1 : line.count
  }

  private static func check(
    _ text: borrowing Storage<UInt8>, _ count: Int
  ) throws(KeyError) {
    try text.withElements(0..<count) { line throws(KeyError) in try check(line) }
  }

  /// Checks that a line of a file may be a key.
  private static func check(_ line: Span<UInt8>) throws(KeyError) {
    if let fault = KeyLineFault(of: line) { throw .line(fault) }
    if line.firstIndex(of: 0) != nil { throw .holdsNUL }
  }

  /// Reads a file with one line. Only blanks may follow it.
  ///
  /// - Returns: as `readLine`.
  private static func readFile(
    _ file: borrowing Descriptor, into text: borrowing Storage<UInt8>
  ) throws(KeyError) -> Int {
    var end = 0
    do throws(SystemError) {
      while end < text.count, let length = try file.read(into: text, from: end), length > 0 {
        end += length
      }
    } catch { throw .cannotRead(error) }
    let count = text.withElements(0..<end) { bytes in
      length(of: bytes.extracting(first: bytes.firstIndex(of: UInt8(ascii: "\n")) ?? end))
    }
    try check(text, count)
    for index in count..<end where !isBlank(text[index]) { throw .secondLine }
    guard end < text.count || count == end else {
      throw count > 2 * maximumSize ? .tooLong : .secondLine
    }
    return count
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || (9...13).contains(byte)
  }
}

/// An open file with a key.
private struct KeyFile: ~Copyable {
  let descriptor: Descriptor
  let isRegular: Bool
  let isReadableByOthers: Bool

  init(_ path: Argument) throws(KeyError) {
    let descriptor: Descriptor
    do throws(SystemError) {
      descriptor = try Descriptor(reading: path)
    } catch { throw error == .accessDenied ? .cannotRead(error) : .notFound(error) }
    let mode: FileMode
    do throws(SystemError) {
      mode = try FileMode(of: descriptor.number)
    } catch { throw .cannotRead(error) }
    let permissions = mode.isRegularFile ? mode.permissions : 0
    guard permissions & 0o022 == 0 else { throw .writableByOthers }
    self.descriptor = descriptor
    isRegular = mode.isRegularFile
    isReadableByOthers = permissions & 0o004 != 0
  }
}
