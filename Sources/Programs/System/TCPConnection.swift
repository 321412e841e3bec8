import CSystem
import KnockBase

extension SocketAddress {
  /// The address that a TCP connection leaves from. Nothing is sent.
  ///
  /// Routes may depend on protocol and port (ip-rule(8)), so a UDP socket cannot tell.
  init(ofConnectionTo address: SocketAddress, from source: SocketAddress?) throws(SystemError) {
    let socket = Descriptor(
      owning: try beginConnection(to: address, from: source, onlyRoutes: true))
    try self.init(localAddressOf: socket.number)
  }
}

extension Descriptor {
  /// Throws why a connection was not made, or why it broke.
  func checkConnection() throws(SystemError) {
    try SystemError.check(csys_connection_result(number))
  }
}

/// TCP sockets that are connecting, each at a place, which counts from 0. All are closed when the value ends. If one
/// that has connected is closed here, its other side gets a reset.
struct ConnectingSockets: ~Copyable {
  private let waiter: Descriptor
  /// The descriptors plus 1; 0 for none.
  private let numbers: Storage<Int32>

  /// - Parameter count: how many places there are, at least 1.
  init(count: Int) throws(SystemError) {
    guard let numbers = Storage<Int32>.mapped(count) else { throw .outOfMemory }
    waiter = Descriptor(owning: try SystemError.check(csys_open_waiter()))
    self.numbers = numbers
  }

  deinit { close(0..<numbers.count) }

  /// Begins to connect a socket. Closes the one that its place held.
  ///
  /// - Parameter source: the local address to connect from, if it matters.
  func begin(
    at place: Int, to address: SocketAddress, from source: SocketAddress?
  ) throws(SystemError) {
    close(place..<place + 1)
    let number = try beginConnection(to: address, from: source, onlyRoutes: false)
    numbers[place] = number + 1
    try SystemError.check(csys_watch_connection(waiter.number, number, UInt32(place)))
  }

  func isOpen(at place: Int) -> Bool { numbers[place] > 0 }

  /// The place of a socket that has connected or failed; nil if none has until a moment in monotonic microseconds,
  /// or a signal comes.
  func next(until deadline: Int64) throws(SystemError) -> Int? {
    try SystemError.checkReady(
      csys_next_connection(waiter.number, max(0, deadline - SystemClock.monotonic())))
  }

  /// Takes a socket that has connected or failed.
  ///
  /// - Throws: why it has failed.
  func finish(at place: Int) throws(SystemError) -> Descriptor {
    let socket = Descriptor(owning: numbers[place] - 1)
    numbers[place] = 0
    try socket.checkConnection()
    return socket
  }

  func close(_ places: Range<Int>) {
    for place in places where isOpen(at: place) {
      csys_close(numbers[place] - 1)
      numbers[place] = 0
    }
  }
}

private func beginConnection(
  to address: SocketAddress, from source: SocketAddress?, onlyRoutes: Bool
) throws(SystemError) -> Int32 {
  let result = unsafe address.withSystemAddress { address, size in
    guard let source else {
      return unsafe csys_begin_connection(nil, address, size, onlyRoutes ? 1 : 0)
    }
    return unsafe source.withSystemAddress { source, _ in
      unsafe csys_begin_connection(source, address, size, onlyRoutes ? 1 : 0)
    }
  }
  return try SystemError.check(result)
}
