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
        SetElement(first: AddressNumber(address), last: AddressNumber(last), milliseconds: time))
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
      expected.times[Int(address.low)] = wish.time(after: model.times[Int(address.low)])
    }
    var overlaps: [SetElement] = []
    change.visitOverlaps { overlaps.append($0) }
    #expect(overlaps == elements.filter { $0.first <= range.last && $0.last >= range.first })
    var result = model
    for element in overlaps {
      for address in element.first...element.last { result.times[Int(address.low)] = nil }
    }
    var lowest: AddressNumber = 0
    change.visitReplacements(by: wish) { element in
      #expect(element.first >= lowest && element.first <= element.last)
      lowest = element.last + 1
      for address in element.first...element.last {
        #expect(result.times[Int(address.low)] == nil)
        result.times[Int(address.low)] = element.milliseconds
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
  #expect(overlaps == [SetElement(first: 7, last: AddressNumber(UInt32.max), milliseconds: 9)])
}

@Test func moreBoundariesThanFitAreSaidToBe() {
  var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
  change.begin(AddressRange(.inet(0), prefixLength: 16))
  for address in 1...IntervalChange.capacity {
    change.take(Boundary(address: AddressNumber(address), isEnd: false, milliseconds: 1))
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
    (AddressRange(.inet(16), prefixLength: 32), nil as AddressNumber?, true),
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

// Found by Tests/Mutants

/// The boundaries of an element of addresses that are numbers.
private func take(
  _ change: inout IntervalChange, _ range: ClosedRange<AddressNumber>, _ milliseconds: UInt64
) {
  change.take(Boundary(address: range.lowerBound, isEnd: false, milliseconds: milliseconds))
  change.take(
    Boundary(address: range.upperBound + 1, isEnd: true, milliseconds: SetElement.forever))
}

@Test func aSetIsDoneWhenItHasTheVeryElement() {
  var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
  let forever = SetElement.forever
  let open = SetChange.open(milliseconds: 9)
  let close = SetChange.close(sparingPermanent: true)
  for (elements, wish, isDone) in [
    ([(16...31, 9)], open, true), ([(16...31, 10)], open, true), ([(16...31, 8)], open, false),
    ([(16...31, forever)], open, true), ([(16...30, 9)], open, false),
    ([(17...31, 9)], open, false), ([(0...99, 9)], open, true), ([], open, false),
    ([(0...15, 9), (32...40, 9)], open, false), ([(16...23, 9), (24...31, 9)], open, false),
    ([], close, true), ([(0...15, 9), (32...40, 9)], close, true), ([(16...31, 9)], close, false),
    ([(31...31, 9)], close, false), ([(16...16, 9)], close, false),
    ([(16...31, forever)], close, true), ([(0...99, forever)], close, true),
    ([(20...25, forever)], close, true), ([(20...25, forever), (30...31, 9)], close, false),
    ([(16...31, forever)], .close(sparingPermanent: false), false),
  ] as [([(ClosedRange<AddressNumber>, UInt64)], SetChange, Bool)] {
    change.begin(AddressRange(.inet(16), prefixLength: 28))
    for (range, milliseconds) in elements { take(&change, range, milliseconds) }
    let found = change.isAlreadyDone(wish)
    #expect(found == isDone, "\(elements) \(wish)")
  }
}

@Test func piecesThatTouchAndStayForTheSameTimeAreOne() {
  var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
  change.begin(AddressRange(.inet(16), prefixLength: 28))
  take(&change, 10...18, 9)
  take(&change, 20...40, 9)
  var pieces: [SetElement] = []
  change.visitReplacements(by: .open(milliseconds: 9)) { pieces.append($0) }
  #expect(pieces == [SetElement(first: 10, last: 40, milliseconds: 9)])
  pieces = []
  change.visitReplacements(by: .open(milliseconds: 10)) { pieces.append($0) }
  #expect(
    pieces == [
      SetElement(first: 10, last: 15, milliseconds: 9),
      SetElement(first: 16, last: 31, milliseconds: 10),
      SetElement(first: 32, last: 40, milliseconds: 9),
    ])
  #expect(change.overlapCount == 2)
  #expect(change.replacementCount(by: .open(milliseconds: 10)) == 3)
}

@Test func theGreatestAddressOfEachFamilyCanBeOpenedAndClosed() {
  for (address, bits) in [
    (Address.inet(.max), 32), (.inet(.max), 0), (.inet6(high: .max, low: .max), 128),
    (.inet6(high: .max, low: .max), 0),
  ] {
    let range = AddressRange(address, prefixLength: bits)
    var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
    change.begin(range)
    var pieces: [SetElement] = []
    change.visitReplacements(by: .open(milliseconds: 9)) { pieces.append($0) }
    #expect(pieces == [SetElement(first: range.first, last: range.last, milliseconds: 9)])
    // The element has no end.
    change.take(Boundary(address: range.first, isEnd: false, milliseconds: 9))
    let isOpen = change.isAlreadyDone(.open(milliseconds: 9))
    #expect(isOpen)
    pieces = []
    change.visitReplacements(by: .close(sparingPermanent: true)) { pieces.append($0) }
    #expect(pieces.isEmpty)
  }
}

@Test func eachChangeBeginsWithoutTheLastOne() {
  var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
  change.begin(AddressRange(.inet(0), prefixLength: 0))
  for address in 1...IntervalChange.capacity + 1 {
    change.take(Boundary(address: AddressNumber(address), isEnd: false, milliseconds: 1))
  }
  let isTooFull = change.isTooFull
  #expect(isTooFull)
  change.begin(AddressRange(.inet(16), prefixLength: 28))
  let isTooFullStill = change.isTooFull
  #expect(!isTooFullStill)
  #expect(change.overlapCount == 0)
  take(&change, 10...40, 9)
  change.begin(AddressRange(.inet(16), prefixLength: 28))
  #expect(change.overlapCount == 0)
}

@Test func noMoreBoundariesAreTakenThanTheCapacityAndTheMemory() {
  for (size, room) in [(IntervalChange.capacity + 9, IntervalChange.capacity), (3, 3)] {
    var change = IntervalChange(storage(size, of: Boundary.self))
    change.begin(AddressRange(.inet(0), prefixLength: 16))
    for address in 1...room + 1 {
      let isTooFull = change.isTooFull
      #expect(!isTooFull)
      change.take(Boundary(address: AddressNumber(address), isEnd: false, milliseconds: 1))
    }
    let isTooFull = change.isTooFull
    #expect(isTooFull)
  }
  #expect(IntervalChange.capacity == 256)
}

@Test func anElementMayBeginWhereAnotherEnds() {
  // Whichever of the two boundaries comes first, also at the first address and behind the last one.
  for isEndFirst in [true, false] {
    for place in [16, 20, 32] as [AddressNumber] {
      var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
      change.begin(AddressRange(.inet(16), prefixLength: 28))
      let end = Boundary(address: place, isEnd: true, milliseconds: SetElement.forever)
      let start = Boundary(address: place, isEnd: false, milliseconds: 2)
      change.take(Boundary(address: 5, isEnd: false, milliseconds: 1))
      change.take(isEndFirst ? end : start)
      change.take(isEndFirst ? start : end)
      change.take(Boundary(address: 50, isEnd: true, milliseconds: SetElement.forever))
      var overlaps: [SetElement] = []
      change.visitOverlaps { overlaps.append($0) }
      let all = [
        SetElement(first: 5, last: place - 1, milliseconds: 1),
        SetElement(first: place, last: 49, milliseconds: 2),
      ]
      #expect(overlaps == all.filter { $0.first <= 31 && $0.last >= 16 })
    }
  }
}

@Test func rangesAreThoseOfPrefixes() {
  let number: AddressNumber = 0x2001_0DB8_0000_0000_0000_0000_0000_0001
  let inet6 = Address.inet6(high: 0x2001_0DB8_0000_0000, low: 1)
  for (address, bits, first, last) in [
    (Address.inet(0xC000_0201), 32, 0xC000_0201, 0xC000_0201),
    (.inet(0xC000_0201), 31, 0xC000_0200, 0xC000_0201),
    (.inet(0xC000_0201), 24, 0xC000_0200, 0xC000_02FF),
    (.inet(0xC000_0201), 0, 0, 0xFFFF_FFFF),
    (inet6, 128, number, number), (inet6, 127, number - 1, number),
    (inet6, 64, number - 1, number - 1 + AddressNumber(UInt64.max)),
    (inet6, 0, 0, AddressNumber.max),
  ] as [(Address, Int, AddressNumber, AddressNumber)] {
    let range = AddressRange(address, prefixLength: bits)
    #expect(range.first == first && range.last == last, "\(address) \(bits)")
    #expect(range.family == address.family)
  }
  #expect(AddressFamily.inet.addressBits == 32)
  #expect(AddressFamily.inet6.addressBits == 128)
}

@Test func anOpenShortensNoTimeAndACloseSparesWhatStaysForEver() {
  let forever = SetElement.forever
  for (change, rest, expected) in [
    (.open(milliseconds: 9), nil, 9), (.open(milliseconds: 0), nil, 0),
    (.open(milliseconds: 9), 8, 9), (.open(milliseconds: 9), 10, 10),
    (.open(milliseconds: 9), forever, forever), (.open(milliseconds: forever), 9, forever),
    (.close(sparingPermanent: true), nil, nil), (.close(sparingPermanent: true), 9, nil),
    (.close(sparingPermanent: true), forever, forever),
    (.close(sparingPermanent: false), forever, nil), (.close(sparingPermanent: false), nil, nil),
    (.close(sparingPermanent: true, leaving: 5), 9, 5),
    (.close(sparingPermanent: true, leaving: 5), 4, 4),
    (.close(sparingPermanent: true, leaving: 5), nil, nil),
    (.close(sparingPermanent: true, leaving: 5), forever, forever),
    (.close(sparingPermanent: false, leaving: 5), forever, 5),
    (.close(sparingPermanent: false, leaving: forever), forever, forever),
  ] as [(SetChange, UInt64?, UInt64?)] {
    #expect(change.time(after: rest) == expected, "\(change) \(String(describing: rest))")
  }
}

@Test func anElementBeforeTheRangeDecidesNothing() {
  var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
  change.begin(AddressRange(.inet(16), prefixLength: 28))
  take(&change, 5...9, 1)
  let isDecided = change.isDecidedByFirstElement
  #expect(!isDecided)
  change.begin(AddressRange(.inet(16), prefixLength: 28))
  take(&change, 5...99, 1)
  let isDecidedNow = change.isDecidedByFirstElement
  #expect(isDecidedNow)
}

@Test func twoElementsThatBeginAtOneAddressAreOne() {
  var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
  change.begin(AddressRange(.inet(16), prefixLength: 28))
  for _ in 0..<2 { change.take(Boundary(address: 20, isEnd: false, milliseconds: 1)) }
  change.take(Boundary(address: 25, isEnd: true, milliseconds: SetElement.forever))
  var overlaps: [SetElement] = []
  change.visitOverlaps { overlaps.append($0) }
  #expect(overlaps == [SetElement(first: 20, last: 24, milliseconds: 1)])
}
