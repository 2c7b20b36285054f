package wire

// VerifyForeign says whether data is exactly one msgpack value whose claimed
// lengths fit the bytes that follow, without allocating: what another program
// sent may then be decoded.
func VerifyForeign(data []byte) error { return verify(data) }
