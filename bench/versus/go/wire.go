package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
)

// Returns an established connection. Go sets TCP_NODELAY by default.
type dialer func(address string) (net.Conn, error)

func dialPlain(address string) (net.Conn, error) {
	return net.Dial("tcp", address)
}

// Returns a connection over TLS after its handshake.
func secureDialer() (dialer, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(os.Getenv("VERSUS_CERTIFICATE"))) {
		return nil, errors.New("no certificate to trust")
	}
	config := &tls.Config{RootCAs: roots, ServerName: "localhost"}
	return func(address string) (net.Conn, error) {
		return tls.Dial("tcp", address, config)
	}, nil
}
