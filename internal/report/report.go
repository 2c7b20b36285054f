package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"path/filepath"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/plots"
	"github.com/driftmesh/driftmesh/internal/runs"
)

//go:embed report.html.tmpl
var pageSource string

var page = template.Must(template.New("report").Parse(pageSource))

// Write makes dir/report.html and a PNG copy of each plot in dir/plots/,
// replacing those of an earlier report. It returns the path of the page.
func Write(dir string, d Data) (string, error) {
	figures, err := d.figures()
	if err != nil {
		return "", err
	}
	plotsDir := filepath.Join(dir, runs.PlotsDir)
	if err := os.MkdirAll(plotsDir, 0o755); err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	view := pageView{
		Data: &d, Config: string(d.Config), Facts: d.headline(), Evaluations: d.evaluations(), Best: d.best(),
		Light: template.CSS(plots.Style(false)), Dark: template.CSS(plots.Style(true)),
	}
	for _, f := range figures {
		png, err := plots.PNG(f.plot)
		if err != nil {
			return "", fmt.Errorf("report: %w", err)
		}
		if err := atomicfile.WriteBytes(filepath.Join(plotsDir, f.file+".png"), 0o644, png); err != nil {
			return "", fmt.Errorf("report: %w", err)
		}
		svg, err := plots.SVG(f.plot)
		if err != nil {
			return "", fmt.Errorf("report: %w", err)
		}
		view.Figures = append(view.Figures, figureView{
			Title: f.title, Caption: f.caption, Wide: f.wide, PNG: runs.PlotsDir + "/" + f.file + ".png",
			// Drawn by package plots, which escapes every text in it.
			SVG: template.HTML(svg),
		})
	}
	var b bytes.Buffer
	if err := page.Execute(&b, view); err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	path := filepath.Join(dir, runs.ReportFile)
	if err := atomicfile.WriteBytes(path, 0o644, b.Bytes()); err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	return path, nil
}

// pageView is what the template sees.
type pageView struct {
	*Data
	Config      string
	Facts       []Fact
	Figures     []figureView
	Evaluations []evaluation
	Best        []bestObject
	Light, Dark template.CSS
}

type figureView struct {
	Title, Caption, PNG string
	Wide                bool
	SVG                 template.HTML
}
