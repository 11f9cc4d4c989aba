// Package cryptogen makes the key material of a test network: certificate
// authorities, nodes and users of organisations, as directory trees that nodes,
// clients and configtxgen read (IDENTITY-CONFIG §10).
//
// It keeps no state but the files it writes and starts no goroutine. The
// cryptogen command imports it, and tests that need a network.
package cryptogen

import (
	"bytes"
	"fmt"
	"text/template"

	"go.yaml.in/yaml/v3"
)

// Network is a configuration file. Unknown keys are ignored.
type Network struct {
	OrdererOrgs []Org `yaml:"OrdererOrgs"`
	PeerOrgs    []Org `yaml:"PeerOrgs"`
}

// Org describes one organisation.
type Org struct {
	Name          string   `yaml:"Name"`
	Domain        string   `yaml:"Domain"`
	EnableNodeOUs bool     `yaml:"EnableNodeOUs"`
	CA            Node     `yaml:"CA"`
	Template      Template `yaml:"Template"`
	Specs         []Node   `yaml:"Specs"`
	Users         Users    `yaml:"Users"`
}

// Node describes one node, or the certificate authority of an organisation, the
// only one whose subject fields count.
type Node struct {
	Hostname           string   `yaml:"Hostname"`
	CommonName         string   `yaml:"CommonName"`
	Country            string   `yaml:"Country"`
	Province           string   `yaml:"Province"`
	Locality           string   `yaml:"Locality"`
	OrganizationalUnit string   `yaml:"OrganizationalUnit"`
	StreetAddress      string   `yaml:"StreetAddress"`
	PostalCode         string   `yaml:"PostalCode"`
	SANS               []string `yaml:"SANS"`
}

// Template describes a number of nodes alike.
type Template struct {
	Count    int      `yaml:"Count"`
	Start    int      `yaml:"Start"`
	Hostname string   `yaml:"Hostname"`
	SANS     []string `yaml:"SANS"`
}

// Users is the number of users besides the administrator.
type Users struct {
	Count int `yaml:"Count"`
}

// Defaults of names.
const (
	defaultHostname   = "{{.Prefix}}{{.Index}}"
	defaultCommonName = "{{.Hostname}}.{{.Domain}}"
	defaultCAHostname = "ca"
)

// Parse reads a configuration file.
func Parse(text []byte) (*Network, error) {
	n := &Network{}
	if err := yaml.Unmarshal(text, n); err != nil {
		return nil, fmt.Errorf("Error Unmarshaling YAML: %w", err)
	}
	return n, nil
}

func expand(text string, data any) (string, error) {
	t, err := template.New("parse").Parse(text)
	if err != nil {
		return "", fmt.Errorf("Error parsing template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return "", fmt.Errorf("Error executing template: %w", err)
	}
	return out.String(), nil
}

func expandOr(text, def string, data any) (string, error) {
	if text == "" {
		text = def
	}
	return expand(text, data)
}

// hostData feeds the template of node host names, nameData that of common names
// and alternative names.
type hostData struct {
	Prefix string
	Index  int
	Domain string
}

type nameData struct {
	Hostname, Domain, CommonName string
}

// resolve fills in the names of an organisation: afterwards Specs holds every
// node with its final names, CommonName first among its SANS. prefix is "peer"
// or "orderer".
func (o *Org) resolve(prefix string) error {
	for i := range o.Template.Count {
		host, err := expandOr(o.Template.Hostname, defaultHostname, hostData{prefix, i + o.Template.Start, o.Domain})
		if err != nil {
			return err
		}
		o.Specs = append(o.Specs, Node{Hostname: host, SANS: o.Template.SANS})
	}
	for i := range o.Specs {
		if err := o.Specs[i].resolve(o.Domain); err != nil {
			return err
		}
	}
	if o.CA.Hostname == "" {
		o.CA.Hostname = defaultCAHostname
	}
	o.CA.SANS = nil
	return o.CA.resolve(o.Domain)
}

func (n *Node) resolve(domain string) error {
	data := nameData{Hostname: n.Hostname, Domain: domain}
	cn, err := expandOr(n.CommonName, defaultCommonName, data)
	if err != nil {
		return err
	}
	n.CommonName, data.CommonName = cn, cn
	sans := []string{cn, n.Hostname}
	for _, s := range n.SANS {
		san, err := expand(s, data)
		if err != nil {
			return err
		}
		sans = append(sans, san)
	}
	n.SANS = sans
	return nil
}
