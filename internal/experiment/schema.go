package experiment

import (
	"encoding/json"
	"fmt"

	"github.com/driftmesh/driftmesh/internal/job"
)

// Schema returns the JSON Schema (draft 2020-12) of a study, indented. The base
// of a part is a job, as job.Schema describes it, or the path of a file.
func Schema() ([]byte, error) {
	text, err := job.Schema()
	if err != nil {
		return nil, err
	}
	var base map[string]any
	if err := json.Unmarshal(text, &base); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	type object = map[string]any
	describe := func(doc string, s object) object { s["description"] = doc; return s }
	ref := func(name string) object { return object{"$ref": "#/$defs/" + name} }
	mapping := func(doc string, of object) object {
		return describe(doc, object{"type": "object", "additionalProperties": of})
	}
	list := func(doc string, of object) object {
		return describe(doc, object{"type": "array", "items": of})
	}
	text1 := object{"type": "string"}
	filters := list("Cells: each filter names axes with a value or a list of values.", object{"type": "object"})
	seeds := describe("A number of seeds, counted from 0, or a list of them.", object{"oneOf": []any{
		object{"type": "integer", "minimum": 1, "maximum": maxSeeds},
		object{"type": "array", "items": object{"type": "integer", "minimum": 0}, "uniqueItems": true},
	}})
	with := mapping("Fields by dotted path, such as train.updates, and their values.", object{})
	axes := mapping("Axes of the grid: fields by dotted path, and the list of their values.", object{"type": "array", "minItems": 1})
	section := func(more object) object {
		props := object{
			"about": describe("What the part shows; a paragraph of the report.", object{"type": "string"}),
			"kind":  describe("train, or a computation that `driftmesh experiment run` knows.", object{"type": "string", "default": Train}),
			"base":  describe("The job that every cell changes, or the path of its file; for computations their parameters.", object{"type": []any{"object", "string"}}),
			"with":  with, "axes": axes,
			"variants": mapping("Named sets of fields that go together: an axis called variant.", with),
			"select":   filters, "exclude": filters, "seeds": seeds,
			"metrics":  list("Fields of metrics.jsonl at the end of training, such as tv.", text1),
			"higher":   list("Metrics of which more is better.", text1),
			"figures":  list("Metrics that are drawn over updates.", text1),
			"baseline": mapping("Values of axes: every other cell is compared with the one that has these, and is equal otherwise.", object{}),
			"margin":   describe("Percent of the baseline's mean within which a cell is not worse.", object{"type": "number", "minimum": 0, "maximum": 1000, "default": 10}),
			"times": mapping("Conditions of which the time is reported, in updates.", object{
				"type": "object", "additionalProperties": false, "required": []any{"when"},
				"properties": object{
					"when":  describe("Comparisons joined by and: modes_held >= modes_total.", object{"type": "string"}),
					"times": describe("Evaluations running that must meet it.", object{"type": "integer", "minimum": 1, "default": defaultRuns}),
				}}),
			"claims": mapping("What is claimed of the part's results beforehand: a sentence, and how its verdict is found.", object{
				"type": "object", "additionalProperties": false, "required": []any{"metric", "of", "expect", "than"},
				"properties": object{
					"source": describe("Who says so, such as the paper; absent: the study itself.", text1),
					"metric": describe("One of the part's metrics or times.", text1),
					"of":     describe("The cells that it is about: axes, each with a value or a list of values.", object{"type": "object", "minProperties": 1}),
					"expect": describe("How the metric shall be; not less and not more are within the margin.", object{"enum": []any{Less, More, NotLess, NotMore}}),
					"than":   describe("Values that the cell to compare with has instead; it is equal otherwise.", object{"type": "object", "minProperties": 1}),
				}}),
		}
		for k, v := range more {
			props[k] = v
		}
		return object{"type": "object", "additionalProperties": false, "properties": props}
	}
	choice := object{"type": []any{"object", "null"}, "additionalProperties": false, "properties": object{
		"with": with, "axes": axes, "seeds": seeds, "select": filters, "exclude": filters,
	}}
	set := object{"type": []any{"object", "null"}, "additionalProperties": false, "properties": object{
		"about": text1, "with": with, "seeds": seeds, "select": filters, "exclude": filters,
		"parts": mapping("The parts of the set, each with what it changes in them; all parts where it is absent.", ref("choice")),
	}}
	root := section(object{
		"name":     describe("Name of the study, and of its folder in runs/.", object{"type": "string", "pattern": safeName.String()}),
		"parallel": describe("Runs at once; 0 for one per core.", object{"type": "integer", "minimum": 0, "maximum": maxSplit, "default": 0}),
		"parts":    mapping("Grids of their own; what a part does not say it takes from the top of the file.", ref("part")),
		"sets":     mapping("Choices of parts and cells with budgets of their own; the first is the default.", ref("set")),
	})
	root["$schema"] = base["$schema"]
	root["title"] = "Driftmesh study"
	root["required"] = []any{"name"}
	root["$defs"] = object{"part": section(nil), "choice": choice, "set": set}
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	return append(out, '\n'), nil
}
