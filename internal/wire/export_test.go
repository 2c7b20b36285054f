package wire

// Swapped is what FloatBytes returns where memory is not little-endian.
var Swapped = swapped
