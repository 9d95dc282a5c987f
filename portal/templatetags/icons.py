"""Define the icons: 24 by 24, drawn with a stroke in the text's colour (see `.icon` in aisle.css)."""

from django.utils.safestring import mark_safe

ICONS = {
    name: mark_safe(drawing)  # noqa: S308 - constants of this file
    for name, drawing in {
        "add": '<path d="M12 5v14M5 12h14"/>',
        "alert": '<path d="M12 4 2.8 19.5h18.4z"/><path d="M12 10v4.5M12 17.2v.1"/>',
        "arrow-left": '<path d="M19 12H5M11 6l-6 6 6 6"/>',
        "arrow-right": '<path d="M5 12h14M13 6l6 6-6 6"/>',
        "box": '<path d="m12 3 8 4.4v9.2L12 21l-8-4.4V7.4z"/><path d="m4.2 7.5 7.8 4.3 7.8-4.3M12 11.8V21"/>',
        "camera": '<path d="M4 8h3.2L9 5h6l1.8 3H20a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V9a1 1 0 0 1 1-1z"/>'
        '<circle cx="12" cy="13" r="3.5"/>',
        "check": '<path d="m5 12.5 4.5 4.5L19 7.5"/>',
        "chevron": '<path d="m9 6 6 6-6 6"/>',
        "clock": '<circle cx="12" cy="12" r="8.5"/><path d="M12 7.5V12l3 2"/>',
        "copy": '<rect x="8.5" y="8.5" width="11" height="11" rx="2"/>'
        '<path d="M15.5 5.5a2 2 0 0 0-2-1h-7a2 2 0 0 0-2 2v7a2 2 0 0 0 1 2"/>',
        "download": '<path d="M12 4v11M7.5 10.5 12 15l4.5-4.5"/><path d="M4.5 15.5v4h15v-4"/>',
        "edit": '<path d="M4 20h4L19.5 8.5l-4-4L4 16z"/><path d="m13 7 4 4"/>',
        "external": '<path d="M13 5h6v6M19 5l-8.5 8.5"/><path d="M17 14v5H5V7h5"/>',
        "filter": '<path d="M4 7h16M7 12h10M10 17h4"/>',
        "image": '<rect x="3.5" y="4.5" width="17" height="15" rx="2"/><circle cx="9" cy="10" r="1.6"/>'
        '<path d="m4 17 5-4.5 3.5 3 3-2.5 4.5 4"/>',
        "info": '<circle cx="12" cy="12" r="8.5"/><path d="M12 11v5M12 8v.1"/>',
        "key": '<circle cx="8" cy="16" r="4"/><path d="m11 13 8-8M16 8l3 3M13.5 10.5l2 2"/>',
        "list": '<path d="M4 6h.1M4 12h.1M4 18h.1M9 6h11M9 12h11M9 18h11"/>',
        "log-out": '<path d="M10 4.5H6a1.5 1.5 0 0 0-1.5 1.5v12A1.5 1.5 0 0 0 6 19.5h4"/>'
        '<path d="M9.5 12H20M16 8l4 4-4 4"/>',
        "mail": '<rect x="3.5" y="5.5" width="17" height="13" rx="2"/><path d="m4 7.5 8 6 8-6"/>',
        "model": '<path d="M5 19V11M12 19V5M19 19v-5"/>',
        "retry": '<path d="M19.5 12a7.5 7.5 0 1 1-2.3-5.4L20 9"/><path d="M20 4v5h-5"/>',
        "search": '<circle cx="11" cy="11" r="6.5"/><path d="m16 16 4.5 4.5"/>',
        "settings": '<path d="M4 7h9M19 7h1M4 17h1M11 17h9"/><circle cx="16" cy="7" r="2.5"/>'
        '<circle cx="8" cy="17" r="2.5"/>',
        "shield": '<path d="M12 3.5 5 6v5.5c0 4.2 2.9 7.3 7 9 4.1-1.7 7-4.8 7-9V6z"/><path d="m9 12 2.2 2.2L15.2 10"/>',
        "sparkle": '<path d="M12 4c.7 4.7 3.3 7.3 8 8-4.7.7-7.3 3.3-8 8-.7-4.7-3.3-7.3-8-8 4.7-.7 7.3-3.3 8-8z"/>',
        "tag": '<path d="M4 4h7.5l8.5 8.5-7.5 7.5L4 11.5z"/><path d="M8 8v.1"/>',
        "text": '<path d="M5 6.5V5h14v1.5M12 5v14M9.5 19h5"/>',
        "trash": '<path d="M4.5 7h15M9.5 7V4.5h5V7M6.5 7l.8 12.5h9.4L17.5 7M10.2 11v5M13.8 11v5"/>',
        "undo": '<path d="M4.5 12a7.5 7.5 0 1 0 2.3-5.4L4 9"/><path d="M4 4v5h5"/>',
        "upload": '<path d="M12 16V5M7.5 9.5 12 5l4.5 4.5"/><path d="M4.5 15.5v4h15v-4"/>',
        "user": '<circle cx="12" cy="8.5" r="4"/><path d="M4.5 20c.8-3.6 3.7-5.5 7.5-5.5s6.7 1.9 7.5 5.5"/>',
        "x": '<path d="m6 6 12 12M18 6 6 18"/>',
    }.items()
}
