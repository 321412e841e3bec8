import KnockBase
import Netfilter
import TestSupport
import Testing

/// A change in a model: for each of the first addresses, how long it stays; nil where it is not held.
private struct Model: Equatable {
  static let size = 64
  var times = [UInt64?](repeating: nil, count: size)

  /// Elements that do not overlap, with those that touch kept apart.
  static func random(using generator: inout Generator) -> (Model, [SetElement]) {
    var model = Model()
    var elements: [SetElement] = []
    var address = Int.random(in: 0..<8, using: &generator)
    while address < size {
      let last = min(size - 1, address + Int.random(in: 0..<9, using: &generator))
      let times: [UInt64] = [5, 9, 20, SetElement.forever]
      let time = times[Int.random(in: 0..<4, using: &generator)]
      elements.append(
        SetElement(first: UInt128(address), last: UInt128(last), milliseconds: time))
      for held in address...last { model.times[held] = time }
      address = last + 1 + Int.random(in: 0..<6, using: &generator)
    }
    return (model, elements)
  }
}

@Test func everyChangeIsAsIfEachAddressWereOnItsOwn() {
  var generator = Generator(seed: 1)
  var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
  for _ in 0..<20_000 {
    let (model, elements) = Model.random(using: &generator)
    let bits = Int.random(in: 0...5, using: &generator)
    let range = AddressRange(
      .inet(UInt32.random(in: 0..<64, using: &generator)), prefixLength: 32 - bits)
    let wish =
      [
        SetChange.open(milliseconds: 9), .open(milliseconds: SetElement.forever),
        .close(sparingPermanent: true), .close(sparingPermanent: false),
      ].randomElement(using: &generator) ?? .open(milliseconds: 9)

    change.begin(range)
    var boundaries = elements.flatMap { element in
      [
        Boundary(address: element.first, isEnd: false, milliseconds: element.milliseconds),
        Boundary(address: element.last + 1, isEnd: true, milliseconds: SetElement.forever),
      ]
    }
    boundaries.shuffle(using: &generator)
    for boundary in boundaries { change.take(boundary) }

    var expected = model
    for address in range.first...range.last {
      expected.times[Int(address)] = wish.time(after: model.times[Int(address)])
    }
    var overlaps: [SetElement] = []
    change.visitOverlaps { overlaps.append($0) }
    #expect(overlaps == elements.filter { $0.first <= range.last && $0.last >= range.first })
    var result = model
    for element in overlaps {
      for address in element.first...element.last { result.times[Int(address)] = nil }
    }
    var lowest: UInt128 = 0
    change.visitReplacements(by: wish) { element in
      #expect(element.first >= lowest && element.first <= element.last)
      lowest = element.last + 1
      for address in element.first...element.last {
        #expect(result.times[Int(address)] == nil)
        result.times[Int(address)] = element.milliseconds
      }
    }
    #expect(result == expected)
    let isDone = change.isAlreadyDone(wish)
    #expect(!isDone || expected == model)
  }
}

@Test func theLastElementMayHaveNoEnd() {
  var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
  change.begin(AddressRange(.inet(.max - 5), prefixLength: 32))
  change.take(Boundary(address: 7, isEnd: false, milliseconds: 9))
  var overlaps: [SetElement] = []
  change.visitOverlaps { overlaps.append($0) }
  #expect(overlaps == [SetElement(first: 7, last: UInt128(UInt32.max), milliseconds: 9)])
}

@Test func moreBoundariesThanFitAreSaidToBe() {
  var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
  change.begin(AddressRange(.inet(0), prefixLength: 16))
  for address in 1...IntervalChange.capacity {
    change.take(Boundary(address: UInt128(address), isEnd: false, milliseconds: 1))
  }
  let isFull = change.isTooFull
  #expect(!isFull)
  change.take(Boundary(address: 999, isEnd: false, milliseconds: 1))
  let isTooFull = change.isTooFull
  #expect(isTooFull)
}

@Test func theFirstElementDecidesOnAllThatItHolds() {
  var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
  let start = Boundary(address: 16, isEnd: false, milliseconds: 1)
  for (range, end, isDecided) in [
    (AddressRange(.inet(16), prefixLength: 32), nil as UInt128?, true),
    (AddressRange(.inet(16), prefixLength: 28), 32, true),
    (AddressRange(.inet(16), prefixLength: 28), 33, true),
    (AddressRange(.inet(16), prefixLength: 28), 31, false),
    (AddressRange(.inet(16), prefixLength: 28), nil, false),
  ] {
    change.begin(range)
    if let end {
      change.take(start)
      change.take(Boundary(address: end, isEnd: true, milliseconds: 1))
    }
    let found = change.isDecidedByFirstElement
    #expect(found == isDecided, "\(range) \(String(describing: end))")
  }
}
