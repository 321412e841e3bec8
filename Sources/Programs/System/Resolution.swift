import CSystem
import KnockBase

/// The addresses of a host, first those of IPv6. Each family is looked up by itself, so that one without an answer does
/// not stop the other. A name is looked up by processes of its own, since getaddrinfo(3) waits.
@safe struct Resolution: ~Copyable {
  private var inet6: Lookup
  private var inet: Lookup

  /// Why a host has no addresses: a number that `csys_resolve_error` explains.
  struct Failure: Error {
    let number: Int32

    /// The C library's words for it.
    var text: UnsafePointer<CChar>? { unsafe csys_resolve_error(number) }

    /// Whether nobody knows if there are addresses.
    var isTemporary: Bool { number == CSYS_EAI_AGAIN }
  }

  /// - Parameters:
  ///   - host: a name or a numeric address.
  ///   - port: of all addresses, in host order.
  ///   - family: nil for both.
  @inline(never)
  init(of host: Argument, port: UInt16, family: AddressFamily?) throws(SystemError) {
    var inet6 = try Lookup(port)
    var inet = try Lookup(port)
    let numeric = SocketAddress(numeric: host)
    let family = family ?? numeric?.family
    if family != .inet { inet6.begin(host, .inet6, isNumeric: numeric != nil) }
    if family != .inet6 { inet.begin(host, .inet, isNumeric: numeric != nil) }
    self.inet6 = inet6
    self.inet = inet
  }

  /// Takes what has been found.
  @inline(never)
  mutating func advance() {
    inet6.advance()
    inet.advance()
  }

  /// Gives up what is still being looked up, for all hosts.
  static func stopAll() { csys_stop_look_ups() }

  func isFinished(_ family: AddressFamily) -> Bool {
    family == .inet ? inet.isFinished : inet6.isFinished
  }

  func addReaders(to set: inout PollSet) {
    if !inet6.isFinished { set.addReader(inet6.descriptor) }
    if !inet.isFinished { set.addReader(inet.descriptor) }
  }

  /// The most addresses in both families. Each has a place.
  static var capacity: Int { 2 * Int(CSYS_NAME_ADDRESSES) }

  static func place(of position: Int, in family: AddressFamily) -> Int {
    family == .inet ? position : position + capacity / 2
  }

  func count(in family: AddressFamily) -> Int { family == .inet ? inet.count : inet6.count }

  @inline(never)
  func address(at position: Int, in family: AddressFamily) -> SocketAddress? {
    family == .inet ? inet.address(at: position) : inet6.address(at: position)
  }

  /// The addresses that have been found, each once; nil after the last.
  @inline(never)
  func address(at position: Int) -> SocketAddress? {
    position < inet6.count
      ? inet6.address(at: position) : inet.address(at: position - inet6.count)
  }

  /// Why there are none.
  @inline(never)
  var failure: Failure? {
    guard inet6.count + inet.count == 0 else { return nil }
    if let failure = inet6.failure, failure.isTemporary { return failure }
    return inet.failure ?? inet6.failure
  }
}

/// A look-up of the addresses of a host in one family.
@safe private struct Lookup: ~Copyable {
  private let port: UInt16
  private let addresses: Storage<UInt8>
  private var process: Int32 = 0
  /// None if no process is looking up.
  private var pipe = Descriptor.none
  /// How many addresses there are, or the number of a `Failure`; 0 if nobody has asked.
  private var result: Int32 = 0

  init(_ port: UInt16) throws(SystemError) {
    guard
      let addresses = Storage<UInt8>.mapped(Int(CSYS_NAME_ADDRESSES * CSYS_ADDRESS_SIZE))
    else { throw .outOfMemory }
    self.addresses = addresses
    self.port = port
  }

  mutating func begin(_ host: Argument, _ family: AddressFamily, isNumeric: Bool) {
    if !isNumeric {
      let number = unsafe csys_begin_look_up(host.pointer, family.number, &process)
      if number >= 0 {
        pipe = Descriptor(owning: number)
        return
      }
    }
    result = unsafe csys_look_up(
      host.pointer, family.number, isNumeric ? 1 : 0, addresses.baseAddress, CSYS_NAME_ADDRESSES)
  }

  @inline(never)
  mutating func advance() {
    guard pipe.isOpen else { return }
    let result = unsafe csys_end_look_up(pipe.number, process, addresses.baseAddress)
    guard result != CSYS_UNFINISHED else { return }
    self.result = result
    pipe = .none
  }

  var isFinished: Bool { !pipe.isOpen }
  var descriptor: Int32 { pipe.number }
  var count: Int { Int(max(result, 0)) }
  var failure: Resolution.Failure? { result < 0 ? Resolution.Failure(number: result) : nil }

  @inline(never)
  func address(at position: Int) -> SocketAddress? {
    guard position < count else { return nil }
    let size = Int(CSYS_ADDRESS_SIZE)
    return addresses.withElements(position * size..<(position + 1) * size) {
      SocketAddress(stored: $0, port: port)
    }
  }
}
