"""How pages and pictures look: `palette` names the colours, `page` makes an HTML file."""
