import KnockBase

/// Copies the standard input to a connection, and what the connection brings to the standard output, until
/// both have ended.
struct Relay: ~Copyable {
  /// The bytes that one direction has read and not yet written.
  private struct Buffer: ~Copyable {
    private static let size = 65_536

    private let bytes: Storage<UInt8>
    private var filled = 0..<0
    private var sourceHasEnded = false

    init() throws(SystemError) {
      guard let bytes = Storage<UInt8>.mapped(Self.size) else { throw .outOfMemory }
      self.bytes = bytes
    }

    var waitsForSource: Bool { filled.isEmpty && !sourceHasEnded }
    var waitsForSink: Bool { !filled.isEmpty }
    var hasEnded: Bool { filled.isEmpty && sourceHasEnded }

    mutating func fill(from source: borrowing Descriptor) throws(SystemError) {
      guard let count = try source.read(into: bytes) else { return }
      filled = 0..<count
      sourceHasEnded = count == 0
    }

    mutating func drain(into sink: borrowing Descriptor) throws(SystemError) {
      guard let count = try sink.writeWithoutWaiting(bytes, in: filled) else { return }
      filled = filled.lowerBound + count..<filled.upperBound
    }
  }

  private let socket: Descriptor
  private let input = Descriptor.standardInput
  /// None once the connection has brought all.
  private var output = Descriptor.standardOutput
  private var sent: Buffer
  private var received: Buffer

  init(_ socket: consuming Descriptor) throws(SystemError) {
    let sent = try Buffer()
    let received = try Buffer()
    self.socket = socket
    self.sent = sent
    self.received = received
  }

  /// - Throws: why the connection, or one of the standard streams, broke. What had arrived was written before.
  mutating func run() throws(SystemError) {
    var isSending = true
    var failure: SystemError?
    while isSending || output.isOpen {
      var set = PollSet()
      set.addReader(isSending && sent.waitsForSource ? input.number : -1)
      set.addWriter(isSending && sent.waitsForSink ? socket.number : -1)
      set.addReader(received.waitsForSource ? socket.number : -1)
      set.addWriter(received.waitsForSink ? output.number : -1)
      // A connection may break while nothing is read from it or written to it.
      set.addWatch(isSending ? socket.number : -1)
      set.addWatch(isSending ? -1 : output.number)
      // Without a limit: keepalive ends a connection whose other side is gone.
      try set.wait(until: .max)
      if set.isReady(0) { try sent.fill(from: input) }
      do throws(SystemError) {
        if set.isReady(1) { try sent.drain(into: socket) }
        if set.isReady(4) { try socket.checkConnection() }
      } catch { failure = error }
      if set.isReady(2) { try received.fill(from: socket) }
      if set.isReady(3) { try received.drain(into: output) }
      // Each end is passed on at once.
      if isSending, sent.hasEnded || failure != nil || set.isReady(4) {
        socket.endWriting()
        isSending = false
      }
      // Nobody reads what may still come.
      if received.hasEnded || set.isReady(5) { output = .none }
    }
    if let failure { throw failure }
  }
}
