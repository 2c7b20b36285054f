package losses

// family is one row of the table of members.
type family struct {
	name      string
	parameter string // its meaning; "" where there is none
	example   string // the spec that listings and plots show
	slope     string // g'(δ)
	build     func(p float64) Divergence
	positive  bool // the parameter must be above 0
}

// Info describes one row of the table of members for listings.
type Info struct {
	Name      string `json:"name"`      // such as "alpha" or "hellinger"
	Parameter string `json:"parameter"` // "" for a member without one
	Example   string `json:"example"`   // a spec that Parse reads
	Slope     string `json:"g1"`        // the formula of g'(δ), b = 1 − alpha
	Behaviour string `json:"behaviour"`
	// EffectiveAlpha is that of Example; nil outside the alpha family.
	EffectiveAlpha *float64 `json:"effective_alpha"`
}

// Table lists every built-in member in the order of the f-TB table.
func Table() []Info {
	out := make([]Info, 0, len(families))
	for _, f := range families {
		d, err := Parse(f.example)
		if err != nil { // the examples are constants of this package, tested to parse
			continue
		}
		row := Info{Name: f.name, Parameter: f.parameter, Example: f.example, Slope: f.slope, Behaviour: d.Behaviour()}
		if a, ok := d.EffectiveAlpha(); ok {
			row.EffectiveAlpha = &a
		}
		out = append(out, row)
	}
	return out
}

// families is the table of f-TB; the order is that of listings.
var families = []family{
	fixedAlpha("reverse_kl", 1, "δ"),
	fixedAlpha("forward_kl", 0, "1 − e^{−δ}"),
	{
		name: "alpha", parameter: "alpha", example: "alpha:0.75", slope: "(1 − e^{−bδ})/b",
		build: func(p float64) Divergence { return alpha{name: "alpha:" + formatNumber(p), b: 1 - p} },
	},
	fixedAlpha("hellinger", 0.5, "2(1 − e^{−δ/2})"),
	fixedAlpha("pearson_chi2", -1, "(1 − e^{−2δ})/2"),
	fixedAlpha("neyman_chi2", 2, "e^{δ} − 1"),
	{
		name: "linex", parameter: "a", example: "linex:0.5", slope: "(e^{aδ} − 1)/a",
		build: func(p float64) Divergence { return alpha{name: "linex:" + formatNumber(p), b: -p} },
	},
	fixed("jeffreys", "(δ + 1 − e^{−δ})/2", jeffreys{plain{"jeffreys", "both covering and seeking"}}),
	fixed("jensen_shannon", "2(log 2 − softplus(−δ))",
		jensenShannon{plain{"jensen_shannon", "bounded (1.386) for overweighted paths, twice TB's slope for underweighted"}}),
	fixed("shifted_cosh", "sinh δ", shiftedCosh{plain{"shifted_cosh", "both covering and seeking, steep"}}),
	fixed("triangular", "(1−u)(1+3u)/(1+u)²", triangular{plain{"triangular", "weights bounded on both sides (−3 to 1)"}}),
	fixed("total_variation", "sign(δ)/2", totalVariation{plain{"total_variation", "absolute error"}}),
	{
		name: "huber", parameter: "k", example: "huber:1", slope: "clip(δ, −k, k)", positive: true,
		build: func(p float64) Divergence {
			return huber{plain{"huber:" + formatNumber(p), "reverse KL with bounded weights"}, p}
		},
	},
	fixed("log_cosh", "tanh δ", logCoshMember{plain{"log_cosh", "smooth Huber"}}),
}

func fixed(name, slope string, d Divergence) family {
	return family{name: name, example: name, slope: slope, build: func(float64) Divergence { return d }}
}

func fixedAlpha(name string, a float64, slope string) family {
	return fixed(name, slope, alpha{name: name, b: 1 - a})
}

func findFamily(name string) (family, bool) {
	for _, f := range families {
		if f.name == name {
			return f, true
		}
	}
	return family{}, false
}
