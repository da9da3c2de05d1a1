// Command filesdoc writes docs/FILES.md to standard output: state.Registry as a table, and the schema
// of each file with the comments of its Go type. Run it at the top of the repository.
package main

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"log"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/towpath/towpath/lib/state"
)

func main() {
	log.SetFlags(0)
	types, err := schemaTypes(filepath.Join("lib", "state", "schema.go"))
	if err != nil {
		log.Fatal("filesdoc: ", err)
	}
	var b strings.Builder
	b.WriteString(`<!-- Generated from lib/state by "make generate"; do not edit. -->
# The files between the programs

Names are below the run directory (` + state.DefaultRunDir + `, flag --run-dir) unless they are absolute; words in capitals
stand for a value. A file is written by one program: to a temporary file beside it, fsync, rename, and only
when its bytes change. JSON has sorted keys after ` + "`version`" + `, unknown keys are ignored, a newer version is refused
with exit status 65.

| file | version | written by | read by | holds |
|---|---|---|---|---|
`)
	for _, f := range state.Registry {
		version := "–"
		if f.Version > 0 {
			version = fmt.Sprint(f.Version)
		}
		if f.Mode != 0 {
			f.Holds += fmt.Sprintf("; mode %04o", f.Mode)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", code(f.Name), version, strings.Join(f.Producers, ", "), strings.Join(f.Consumers, ", "), f.Holds)
	}
	b.WriteString("\n## Schemas\n")
	done := map[string]bool{}
	for _, f := range state.Registry {
		if f.Schema != nil {
			writeType(&b, types, reflect.TypeOf(f.Schema).Name(), done)
		}
	}
	if _, err := os.Stdout.WriteString(b.String()); err != nil {
		log.Fatal("filesdoc: ", err)
	}
}

func code(s string) string { return "`" + s + "`" }

func schemaTypes(path string) (map[string]*ast.TypeSpec, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	pkg, err := doc.NewFromFiles(fset, []*ast.File{file}, "state")
	if err != nil {
		return nil, err
	}
	types := map[string]*ast.TypeSpec{}
	for _, t := range pkg.Types {
		spec := t.Decl.Specs[0].(*ast.TypeSpec) // go/doc gives a type one TypeSpec
		spec.Doc = &ast.CommentGroup{List: []*ast.Comment{{Text: "// " + strings.ReplaceAll(strings.TrimSpace(t.Doc), "\n", " ")}}}
		types[t.Name] = spec
	}
	return types, nil
}

// writeType prints a struct and, after it, the structs of this package that its fields use.
func writeType(b *strings.Builder, types map[string]*ast.TypeSpec, name string, done map[string]bool) {
	spec, ok := types[name]
	if !ok || done[name] {
		return
	}
	done[name] = true
	fields, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n| key | type | meaning |\n|---|---|---|\n", name, strings.TrimSpace(spec.Doc.Text()))
	var below []string
	for _, f := range fields.Fields.List {
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
		key, options, _ := strings.Cut(tag, ",")
		if strings.HasPrefix(options, "omit") {
			key += "?"
		}
		text := typeText(f.Type)
		meaning := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
		fmt.Fprintf(b, "| %s | %s | %s |\n", code(key), text, meaning)
		ast.Inspect(f.Type, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				below = append(below, id.Name)
			}
			return true
		})
	}
	for _, t := range below {
		writeType(b, types, t, done)
	}
}

// typeText is a type in the words of JSON.
func typeText(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.Ident:
		switch t.Name {
		case "int", "uint32", "int64", "uint64":
			return "integer"
		case "bool":
			return "true or false"
		}
		return t.Name
	case *ast.ArrayType:
		return "list of " + typeText(t.Elt)
	case *ast.MapType:
		return "object: " + typeText(t.Key) + " → " + typeText(t.Value)
	case *ast.IndexExpr:
		return "{ipv4?, ipv6?} of " + typeText(t.Index)
	case *ast.StarExpr:
		return typeText(t.X)
	case *ast.SelectorExpr:
		switch t.Sel.Name {
		case "Prefix":
			return "prefix"
		case "Addr":
			return "address"
		case "RawMessage":
			return "any JSON"
		case "Time":
			return "time, RFC 3339"
		}
		return t.Sel.Name
	}
	return "?"
}
