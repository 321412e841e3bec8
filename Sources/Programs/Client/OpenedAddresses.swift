import KnockBase

/// The addresses that a host was opened for, each once, so that `--close` closes them from wherever the client is then.
/// The process that closes shares them with its child, which may open for more.
struct OpenedAddresses: ~Copyable {
  private struct Place: BitwiseCopyable {
    var address: Address
    var isUsed: Bool
    var isClosed: Bool
  }

  /// As many as a page has room for: more than a client has while it waits.
  private static let capacity = 170

  private let places: Storage<Place>

  init() throws(SystemError) {
    guard let places = Storage<Place>.shared(Self.capacity) else { throw .outOfMemory }
    self.places = places
  }

  /// The address at an index; nil after the last.
  subscript(index: Int) -> Address? {
    index < places.count && places[index].isUsed ? places[index].address : nil
  }

  /// Adds an address before it is opened. What could not be closed again must not be opened.
  func insert(_ address: Address) throws(SystemError) {
    for index in 0..<places.count where self[index] == nil || self[index] == address {
      places[index] = Place(address: address, isUsed: true, isClosed: false)
      return
    }
    throw .outOfMemory
  }

  /// Records that an address is closed, if it was opened.
  func close(_ address: Address) {
    for index in 0..<places.count where self[index] == address { places[index].isClosed = true }
  }

  /// Returns an address that has not been closed, once.
  func takeUnclosed() -> Address? {
    var index = 0
    while let address = self[index] {
      guard places[index].isClosed else {
        places[index].isClosed = true
        return address
      }
      index += 1
    }
    return nil
  }
}
