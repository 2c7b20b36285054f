package losses

import "math"

// functionNames is what an expression may call, for error messages.
const functionNames = "abs, sign, sqrt, exp, expm1, log, log1p, sinh, cosh, tanh, atan, sigmoid, softplus, min(a, b), max(a, b), pow(a, b)"

// functions give a value and the derivative there.
var functions = map[string]func(float64) (v, slope float64){
	"abs":  func(x float64) (float64, float64) { return math.Abs(x), sign(x) },
	"sign": func(x float64) (float64, float64) { return sign(x), 0 },
	"sqrt": func(x float64) (float64, float64) { r := math.Sqrt(x); return r, 0.5 / r },
	"exp":  func(x float64) (float64, float64) { r := math.Exp(x); return r, r },
	"expm1": func(x float64) (float64, float64) {
		return math.Expm1(x), math.Exp(x)
	},
	"log":   func(x float64) (float64, float64) { return math.Log(x), 1 / x },
	"log1p": func(x float64) (float64, float64) { return math.Log1p(x), 1 / (1 + x) },
	"sinh":  func(x float64) (float64, float64) { return math.Sinh(x), math.Cosh(x) },
	"cosh":  func(x float64) (float64, float64) { return math.Cosh(x), math.Sinh(x) },
	"tanh": func(x float64) (float64, float64) {
		// 1 − tanh² without the cancellation at its ends.
		return math.Tanh(x), 4 * sigmoid(2*x) * sigmoid(-2*x)
	},
	"atan":    func(x float64) (float64, float64) { return math.Atan(x), 1 / (1 + x*x) },
	"sigmoid": func(x float64) (float64, float64) { return sigmoid(x), sigmoid(x) * sigmoid(-x) },
	"softplus": func(x float64) (float64, float64) {
		return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))), sigmoid(x)
	},
}

// operators and functions2 take two numbers.
var operators = map[string]func(a, b dual) dual{
	"+":  func(a, b dual) dual { return dual{a.v + b.v, a.d + b.d} },
	"-":  func(a, b dual) dual { return dual{a.v - b.v, a.d - b.d} },
	"*":  func(a, b dual) dual { return dual{a.v * b.v, chain(b.v, a.d) + chain(a.v, b.d)} },
	"/":  func(a, b dual) dual { q := a.v / b.v; return dual{q, (a.d - chain(q, b.d)) / b.v} },
	"^":  power,
	"**": power,
}

var functions2 = map[string]func(a, b dual) dual{
	"min": func(a, b dual) dual {
		if b.v < a.v {
			return b
		}
		return a
	},
	"max": func(a, b dual) dual {
		if b.v > a.v {
			return b
		}
		return a
	},
	"pow": power,
}

func power(a, b dual) dual {
	v := math.Pow(a.v, b.v)
	d := chain(b.v*math.Pow(a.v, b.v-1), a.d)
	if b.d != 0 {
		d += v * math.Log(a.v) * b.d
	}
	return dual{v, d}
}

var comparisons = map[string]func(a, b float64) bool{
	"<":  func(a, b float64) bool { return a < b },
	"<=": func(a, b float64) bool { return a <= b },
	">":  func(a, b float64) bool { return a > b },
	">=": func(a, b float64) bool { return a >= b },
	"==": func(a, b float64) bool { return a == b },
	"!=": func(a, b float64) bool { return a != b },
}
